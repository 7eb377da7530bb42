//! What a log held that did not enter its trajectory as it stood there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that the reader of a log wants to know about the trajectory that was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogNote {
    /// Whose role says nothing of what they are: they are read as tool output, named by their role.
    UnknownRole {
        /// The role.
        role: String,
        /// How many.
        messages: usize,
    },
    /// Messages without text.
    Empty {
        /// How many.
        messages: usize,
    },
    /// Parts that are no text, or no part of the work: images, demonstrations, encrypted thoughts, a transcript's own lines.
    LeftOut {
        /// What they are, by the log's own word for it.
        what: String,
        /// How many.
        parts: usize,
    },
}

impl LogNote {
    /// Adds `other`'s count where it is of the same kind.
    #[must_use]
    pub fn joins(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::UnknownRole { role, messages }, Self::UnknownRole { role: same, messages: more })
                if role == same =>
            {
                *messages += more;
            }
            (Self::Empty { messages }, Self::Empty { messages: more }) => *messages += more,
            (Self::LeftOut { what, parts }, Self::LeftOut { what: same, parts: more }) if what == same => {
                *parts += more;
            }
            _ => return false,
        }
        true
    }
}

impl fmt::Display for LogNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        match self {
            Self::UnknownRole { role, messages } => write!(
                f,
                "{messages} message{} of the role `{role}`, which says not what it is: read as tool output",
                plural(*messages)
            ),
            Self::Empty { messages } => {
                write!(f, "{messages} message{} without text left out", plural(*messages))
            }
            Self::LeftOut { what, parts } => write!(f, "{parts} × `{what}` left out"),
        }
    }
}

/// Adds a note to others, or its count to the one of its kind.
pub(super) fn add(notes: &mut Vec<LogNote>, note: LogNote) {
    if !notes.iter_mut().any(|known| known.joins(&note)) {
        notes.push(note);
    }
}
