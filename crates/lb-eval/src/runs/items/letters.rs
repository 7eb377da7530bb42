//! What a worker thinks of the four letters, beside the one it writes: that says something where its accuracy does not.
//!
//! The distribution is read behind the task and the published form's own beginning, `The correct answer is (`, which is
//! forced on the worker: the next token's chances over the letters, taken together to 1. A letter counts in every form
//! that is one token there, alone or behind a space.

use lb_session::Choices;

use super::Scoring;
use crate::datasets::{Item, ItemKind, letter};

/// The beginning of a reply in the published form.
const OPENING: &str = "The correct answer is (";

/// The letters of an item that is answered by one.
pub(super) fn letters(item: &Item, scoring: Scoring) -> Option<Choices> {
    match (&item.kind, scoring) {
        (ItemKind::Choices { choices, .. }, Scoring::Official) if choices.len() <= 26 => Some(Choices {
            opening: OPENING.to_owned(),
            options: (0..choices.len()).map(|choice| letter(choice).to_string()).collect(),
        }),
        _ => None,
    }
}
