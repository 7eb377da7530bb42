//! An end before the turns are used up, where further calls change nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// When a question is asked for its answer before its turns are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyEnd {
    /// Turns in a row that brought nothing new: the draft in `answer` is as it was, and every reply of a worker and every output was there
    /// before. At least 1. Default: 2.
    pub turns: usize,
}

impl Default for EarlyEnd {
    fn default() -> Self {
        Self { turns: 2 }
    }
}

impl EarlyEnd {
    /// Checks the range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.turns == 0 { Err(Error::config("early_end.turns", 0, "want at least 1")) } else { Ok(()) }
    }
}

/// What a turn brought.
#[derive(Clone, Copy, Debug)]
pub struct TurnSeen<'a> {
    /// The draft in `answer` after it.
    pub draft: &'a str,
    /// What its code printed, block by block.
    pub outputs: &'a [&'a str],
    /// What workers replied.
    pub replies: &'a [&'a str],
}

/// What a question has brought so far.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    said: BTreeSet<String>,
    draft: String,
    idle: usize,
}

impl Settled {
    /// Takes a turn in; how many in a row have now brought nothing new.
    pub fn saw(&mut self, turn: &TurnSeen<'_>) -> usize {
        let mut new = false;
        for text in turn.outputs.iter().chain(turn.replies) {
            let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
            if !words.is_empty() {
                new |= self.said.insert(words.join(" "));
            }
        }
        let draft = turn.draft.trim();
        if draft != self.draft {
            draft.clone_into(&mut self.draft);
            new = true;
        }
        self.idle = if new { 0 } else { self.idle + 1 };
        self.idle
    }

    /// Turns in a row that brought nothing new.
    pub fn idle(&self) -> usize {
        self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::{Settled, TurnSeen};

    #[test]
    fn a_turn_is_idle_where_all_of_it_was_there_before() {
        let mut settled = Settled::default();
        let mut saw =
            |draft, outputs: &[&str], replies: &[&str]| settled.saw(&TurnSeen { draft, outputs, replies });
        assert_eq!(saw("", &["3 rows"], &["Anara"]), 0);
        assert_eq!(saw("", &["3  ROWS\n"], &["anara"]), 1);
        assert_eq!(saw("", &[], &[]), 2);
        assert_eq!(saw("Anara", &[], &[]), 0);
        assert_eq!(saw("Anara", &["3 rows"], &["Anara", "Benth"]), 0);
        assert_eq!(saw("Anara", &["3 rows"], &["Benth"]), 1);
    }
}
