//! How a fact is asked for: frames that fit every relation, and each relation's own verbs.

use super::{Wording, wording};
use crate::episodes::world::Relation;

/// A relation's own verbs.
pub(in crate::episodes) fn question(relation: Relation) -> Wording {
    match relation {
        Relation::Keeper => KEEPER,
        Relation::Place => PLACE,
        Relation::Code => CODE,
        Relation::Status => STATUS,
        Relation::Rating => RATING,
        Relation::Link => LINK,
        Relation::Base => BASE,
    }
}

/// Frames for every relation; `{w}` is who or what. A relation that holds one of them out does not train on it.
pub(in crate::episodes) const FRAMES: &[&str] = &[
    "{w} is the {r} of {e}?",
    "Which {r} does {e} have?",
    "[Name|Give|Find|Say] the {r} of {e}.",
    "Tell me the {r} of {e}.",
    "Tell me {w} the {r} of {e} is.",
    "Tell me which {r} {e} has.",
    "{e}: {w} is the {r}?",
    "{e}: which {r}?",
    "[Name|Give] the {r} that {e} has.",
    "Which {r} [is given|is listed|do we have] for {e}?",
    "{w} do we know as the {r} of {e}?",
    "As {r} of {e}, {w} is [listed|named]?",
    "For {e}, {w} is the {r}?",
    "We look for the {r} of {e}: {w} is it?",
    "{w} is [listed|named|given] as [the|] {r} of {e}?",
];

const KEEPER: Wording = wording!(
    [
        "Who keeps {e}?",
        "By whom is {e} kept?",
        "In whose care is {e}?",
        "Tell me who keeps {e}.",
        "Tell me who takes care of {e}.",
        "Tell me who the keeper of {e} is.",
        "[Name|Find] the [person|one] who [keeps|takes care of] {e}.",
        "{e}: who keeps it?",
        "{e}: in whose care is it?",
        "Who is the [person|one] who [keeps|takes care of] {e}?",
        "Who has {e} in care?",
        "To whom was {e} given to keep?",
        "{e} is kept by whom?"
    ],
    ["Who takes care of {e}?", "Tell me the keeper of {e}.", "Who is it that keeps {e}?"]
);

const PLACE: Wording = wording!(
    [
        "Where is {e} stored?",
        "Where is {e}?",
        "In which place does {e} lie?",
        "Where can {e} be found?",
        "Where [can|do] we find {e}?",
        "Tell me where {e} [is|lies|is stored|can be found].",
        "Which place holds {e}?",
        "[Name|Find] the place [of|that holds] {e}.",
        "{e}: where is it?",
        "{e}: where [does it lie|is it stored]?",
        "In which place is {e}?",
        "In which place can {e} be found?",
        "{e} is stored in which place?",
        "To which place was {e} moved?"
    ],
    ["Where does {e} lie?", "Tell me the location of {e}.", "In which place is {e} stored?"]
);

const CODE: Wording = wording!(
    [
        "What is the code of {e}?",
        "Which code opens {e}?",
        "With which code does {e} open?",
        "[With what|How] do you open {e}?",
        "Tell me how to open {e}.",
        "Which code is [used|needed] to open {e}?",
        "Which code is it that opens {e}?",
        "{e}: which code opens it?",
        "{e} opens with which code?",
        "Which code does {e} carry?",
        "Which code is listed for {e}?",
        "Tell me which code [opens|belongs to] {e}.",
        "[Name|Find] the code that [opens|belongs to] {e}."
    ],
    ["Tell me the code of {e}.", "Which code belongs to {e}?", "Which code is it that {e} carries?"]
);

const STATUS: Wording = wording!(
    [
        "What is the status of {e}?",
        "How is {e} listed?",
        "How was {e} found?",
        "As what is {e} listed?",
        "{e}: how is it listed?",
        "Tell me how {e} is listed.",
        "What does the scan show for {e}?"
    ],
    ["Tell me the status of {e}.", "{e}: what is the status?"]
);

const RATING: Wording = wording!(
    [
        "What is the rating of {e}?",
        "How is {e} rated?",
        "How was {e} rated?",
        "What does {e} score?",
        "{e}: how is it rated?",
        "Tell me how {e} is rated.",
        "Which rating was given to {e}?"
    ],
    ["Tell me the rating of {e}.", "{e}: what is the rating?"]
);

const LINK: Wording = wording!(
    [
        "What does {e} point to?",
        "To which item does {e} [refer|point|lead]?",
        "Which item is {e} linked to?",
        "[Name|Find] the item that {e} [points to|refers to|leads to|is linked to].",
        "{e}: where does the link lead?",
        "{e}: to which item does it point?",
        "What [is {e} linked|does {e} lead|does {e} refer] to?",
        "Tell me what {e} [points to|leads to|is linked to].",
        "Tell me which item {e} [points to|refers to].",
        "Which item [does {e} refer to|does {e} lead to]?",
        "Where does the link [in|from] {e} lead?",
        "From {e}, where are we led?"
    ],
    ["Which item does {e} point to?", "Tell me what {e} refers to.", "Where does the link of {e} lead?"]
);

const BASE: Wording = wording!(
    [
        "Where does {e} work?",
        "Where is {e} based?",
        "In which place is the office of {e}?",
        "Tell me where {e} [works|is based].",
        "[Name|Find] the [place|office] where {e} works.",
        "In which place is {e} based?",
        "{e}: where is the office?",
        "{e} works in which place?",
        "Where can {e} be found at work?",
        "Where [do|can] we find {e}?",
        "Which place is the base of {e}?",
        "Tell me where the office of {e} is.",
        "Where does {e} have an office?"
    ],
    ["Where is the office of {e}?", "In which place does {e} work?", "Tell me the base of {e}."]
);
