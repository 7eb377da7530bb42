//! Questions that join facts: two hops, counts, comparisons.

use super::{Wording, wording};
use crate::episodes::world::Relation;

/// Two hops: the item's keeper's base.
pub(in crate::episodes) const KEEPER_BASE: Wording = wording!(
    [
        "Where does the [keeper of {e}|person who keeps {e}|one who keeps {e}|one who takes care of {e}] work?",
        "Where is the [keeper of {e}|one who keeps {e}|person who takes care of {e}] based?",
        "In which place does the [keeper of {e}|person who keeps {e}|one who takes care of {e}] work?",
        "In which place is the [keeper of {e}|one who keeps {e}] based?",
        "[Name|Give|Find] the [base|office] of the [keeper of {e}|person who keeps {e}|one who takes care of {e}].",
        "What is the base of the [keeper of {e}|person who keeps {e}]?",
        "In which place is the office of the [keeper of {e}|person who keeps {e}]?",
        "Where is the office of the [one who keeps {e}|person who keeps {e}]?",
        "Tell me where the [keeper of {e}|person who keeps {e}|one who takes care of {e}] [works|is based].",
        "Tell me the base of the [person who keeps {e}|one who keeps {e}].",
        "{e} has a keeper: where [does the keeper work|is the keeper based|is the office of the keeper]?",
        "{e}: where does the keeper work?"
    ],
    [
        "Where is the office of the keeper of {e}?",
        "Tell me the base of the keeper of {e}.",
        "Where is the person who keeps {e} based?"
    ]
);

/// Two hops: an attribute of the item that another item points to.
pub(in crate::episodes) fn linked(relation: Relation) -> Wording {
    match relation {
        Relation::Code => wording!(
            [
                "What is the code of the item that {e} [points to|refers to|is linked to|leads to]?",
                "Which code opens the item that {e} [refers to|points to|leads to]?",
                "Which code [belongs to|is listed for] the item that {e} [refers to|points to|is linked to]?",
                "Which code does the item have that {e} [points to|refers to|leads to|is linked to]?",
                "[Name|Give|Find] the code of the item that {e} [is linked to|points to|refers to|leads to].",
                "Tell me the code of the item that {e} [refers to|leads to|is linked to].",
                "Tell me which code the item has that {e} [refers to|points to|leads to].",
                "{e} [points|refers|leads] to an item: what is its code?",
                "{e} [points|is linked] to an item: which code opens it?"
            ],
            [
                "Tell me the code of the item that {e} points to.",
                "Which code opens the item that {e} is linked to?"
            ]
        ),
        Relation::Place => wording!(
            [
                "Where is the item that {e} [points to|leads to|is linked to]?",
                "Where is the item stored that {e} [is linked to|points to|refers to]?",
                "Where does the item lie that {e} [points to|refers to|leads to]?",
                "What is the location of the item that {e} [refers to|points to|leads to|is linked to]?",
                "In which place is the item that {e} [refers to|points to|is linked to]?",
                "[Name|Give|Find] the location of the item that {e} [is linked to|points to|refers to].",
                "Tell me the location of the item that {e} [refers to|leads to|is linked to].",
                "Tell me where the item is that {e} [refers to|points to|leads to].",
                "{e} [points|refers|leads] to an item: where is it?",
                "{e} [points|is linked] to an item: what is its location?"
            ],
            ["Tell me the location of the item that {e} points to.", "Where is the item that {e} refers to?"]
        ),
        _ => wording!(
            [
                "Who keeps the item that {e} [points to|refers to|leads to]?",
                "Who is the keeper of the item that {e} [refers to|points to|is linked to]?",
                "In whose care is the item that {e} [refers to|leads to|is linked to]?",
                "[Name|Give|Find] the keeper of the item that {e} [is linked to|points to|refers to|leads to].",
                "Tell me the keeper of the item that {e} [refers to|leads to|is linked to].",
                "Tell me who keeps the item that {e} [refers to|points to|leads to].",
                "{e} [points|refers|leads] to an item: who keeps it?",
                "{e} [points|is linked] to an item: who is its keeper?"
            ],
            [
                "Tell me the keeper of the item that {e} points to.",
                "Who keeps the item that {e} is linked to?"
            ]
        ),
    }
}

/// Two hops backwards: an attribute of the one item that a person keeps.
pub(in crate::episodes) fn kept(relation: Relation) -> Wording {
    match relation {
        Relation::Code => wording!(
            [
                "What is the code of the item [kept by {e}|that {e} keeps|in the care of {e}]?",
                "Which code opens the item [that {e} keeps|in the care of {e}|that {e} takes care of]?",
                "Which code does the item have that {e} keeps?",
                "[Name|Give|Find] the code of the item [in the care of {e}|that {e} keeps|kept by {e}].",
                "Tell me the code of the item [in the care of {e}|kept by {e}].",
                "{e} keeps an item: what is its code?"
            ],
            ["Tell me the code of the item that {e} keeps.", "Which code opens the item kept by {e}?"]
        ),
        _ => wording!(
            [
                "Where is the item [kept by {e}|in the care of {e}|that {e} takes care of]?",
                "What is the location of the item [that {e} keeps|kept by {e}|in the care of {e}]?",
                "Where is the item [in the care of {e}|that {e} keeps|kept by {e}] stored?",
                "In which place is the item [that {e} keeps|kept by {e}]?",
                "[Name|Give|Find] the location of the item [in the care of {e}|that {e} keeps|kept by {e}].",
                "Tell me the location of the item [in the care of {e}|kept by {e}].",
                "{e} keeps an item: where is it?"
            ],
            ["Tell me the location of the item that {e} keeps.", "Where is the item that {e} keeps?"]
        ),
    }
}

/// How many items have a status.
pub(in crate::episodes) const COUNT: Wording = wording!(
    [
        "How many items are {v}?",
        "How many [of the|] items are listed as {v}?",
        "How many of the items are [found|] {v}?",
        "Count the [items that are {v}|{v} items].",
        "What is the number of items that are [listed as|] {v}?",
        "Name the number of {v} items.",
        "Tell me the number of [{v} items|items that are {v}].",
        "How many {v} items [are there|do we have]?",
        "How many items did the scan find {v}?"
    ],
    ["Tell me how many items are {v}.", "How many {v} items are listed?", "What is the number of {v} items?"]
);

/// Which of two items is rated higher.
pub(in crate::episodes) const HIGHER: Wording = wording!(
    [
        "Which [item|] is rated higher, {a} or {b}?",
        "Which has the higher rating, {a} or {b}?",
        "Which [item|one] has the higher rating, {a} or {b}?",
        "Of {a} and {b}, which is [the one|] rated higher?",
        "Of {a} and {b}, which scores higher?",
        "Which of {a} and {b} [has the higher rating|scores higher]?",
        "[Name|Find] the one that is rated higher, {a} or {b}.",
        "{a} or {b}: which is rated higher?",
        "Tell me which is rated higher, {a} or {b}."
    ],
    ["Which of {a} and {b} is rated higher?", "Of {a} and {b}, which has the higher rating?"]
);

/// Which of two items is rated lower.
pub(in crate::episodes) const LOWER: Wording = wording!(
    [
        "Which [item|] is rated lower, {a} or {b}?",
        "Which has the lower rating, {a} or {b}?",
        "Which [item|one] has the lower rating, {a} or {b}?",
        "Of {a} and {b}, which is [the one|] rated lower?",
        "Of {a} and {b}, which scores lower?",
        "Which of {a} and {b} [has the lower rating|scores lower]?",
        "[Name|Find] the one that is rated lower, {a} or {b}.",
        "{a} or {b}: which is rated lower?",
        "Tell me which is rated lower, {a} or {b}."
    ],
    ["Which of {a} and {b} is rated lower?", "Of {a} and {b}, which has the lower rating?"]
);

/// Which of three items is rated highest.
pub(in crate::episodes) const HIGHEST: Wording = wording!(
    [
        "Which [item|] is rated highest, {a}, {b} or {c}?",
        "Which has the highest rating, {a}, {b} or {c}?",
        "Of {a}, {b} and {c}, which is [the one|] rated highest?",
        "Of {a}, {b} and {c}, which scores highest?",
        "Which of {a}, {b} and {c} [has the highest rating|scores highest]?",
        "{a}, {b} or {c}: which is rated highest?"
    ],
    ["Which of {a}, {b} and {c} is rated highest?", "Of {a}, {b} and {c}, which has the highest rating?"]
);
