//! How a fact is asked for, relation by relation.

use super::{Wording, wording};
use crate::episodes::world::Relation;

/// How a fact is asked for.
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

const KEEPER: Wording = wording!(
    [
        "Who keeps {e}?",
        "Who is the keeper of {e}?",
        "By whom is {e} kept?",
        "In whose care is {e}?",
        "Name the keeper of {e}.",
        "Tell me who keeps {e}.",
        "{e}: who is the keeper?"
    ],
    ["Who takes care of {e}?", "Tell me the keeper of {e}.", "Who is it that keeps {e}?"]
);

const PLACE: Wording = wording!(
    [
        "Where is {e} stored?",
        "Where is {e}?",
        "What is the location of {e}?",
        "In which place does {e} lie?",
        "Where can {e} be found?",
        "Name the location of {e}.",
        "Tell me where {e} is.",
        "Which place holds {e}?"
    ],
    ["Where does {e} lie?", "Tell me the location of {e}.", "In which place is {e} stored?"]
);

const CODE: Wording = wording!(
    [
        "What is the code of {e}?",
        "Which code does {e} have?",
        "Which code opens {e}?",
        "Name the code of {e}.",
        "With which code does {e} open?",
        "{e}: what is the code?",
        "Tell me which code {e} has."
    ],
    ["Tell me the code of {e}.", "Which code belongs to {e}?", "Which code is it that {e} carries?"]
);

const STATUS: Wording = wording!(
    [
        "What is the status of {e}?",
        "How is {e} listed?",
        "Name the status of {e}.",
        "Which status does {e} have?"
    ],
    ["Tell me the status of {e}.", "{e}: what is the status?"]
);

const RATING: Wording = wording!(
    [
        "What is the rating of {e}?",
        "How is {e} rated?",
        "Name the rating of {e}.",
        "Which rating does {e} have?"
    ],
    ["Tell me the rating of {e}.", "{e}: what is the rating?"]
);

const LINK: Wording = wording!(
    [
        "What does {e} point to?",
        "To which item does {e} refer?",
        "Which item is {e} linked to?",
        "Name the item that {e} points to.",
        "{e}: where does the link lead?"
    ],
    ["Which item does {e} point to?", "Tell me what {e} refers to.", "Where does the link of {e} lead?"]
);

const BASE: Wording = wording!(
    [
        "Where does {e} work?",
        "Where is {e} based?",
        "In which place is the office of {e}?",
        "Name the base of {e}.",
        "Tell me where {e} works."
    ],
    ["Where is the office of {e}?", "In which place does {e} work?", "Tell me the base of {e}."]
);
