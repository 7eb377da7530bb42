//! One step of a recorded log.

use lb_session::{Choices, Segment};
use serde::{Deserialize, Serialize};

/// A trajectory as far as it went, a task about it, and what is known of the right continuation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogItem {
    /// Unique within its file.
    pub id: String,
    /// Items of one document are drawn together in a bootstrap: the id up to its first `#`.
    pub document: String,
    /// The messages so far, oldest first.
    pub trajectory: Vec<Segment>,
    /// What is asked.
    pub task: String,
    /// What was written next; empty where the file does not say.
    pub target: String,
    /// Short right answers, where the file has them.
    pub answers: Vec<String>,
    /// What was decided in the target, where that is known: among what, and for which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
}

impl LogItem {
    /// Right answers: the short ones, or what was written next where the file has none.
    pub fn right_answers(&self) -> Vec<String> {
        if self.answers.is_empty() { vec![self.target.clone()] } else { self.answers.clone() }
    }
}

/// A choice that is made in a continuation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What is decided: `next_speaker`.
    pub name: String,
    /// The beginning of a reply, right behind which the choice stands.
    pub opening: String,
    /// Among what. The first token of each must be its own.
    pub options: Vec<String>,
    /// Which was chosen.
    pub chosen: String,
}

impl Decision {
    /// As a worker weighs it.
    pub(crate) fn choices(&self) -> Choices {
        Choices { opening: self.opening.clone(), options: self.options.clone() }
    }

    /// The number of what was chosen.
    pub fn chosen_number(&self) -> Option<usize> {
        self.options.iter().position(|option| *option == self.chosen)
    }
}
