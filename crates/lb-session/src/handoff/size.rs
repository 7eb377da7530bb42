//! How much of a trajectory is handed over.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How large a selection is. Protected positions (the template's head) count towards it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SelectionSize {
    /// A share of the positions, in (0, 1].
    KeepRatio(f64),
    /// A number of positions, at least 1.
    KeptLen(usize),
}

impl SelectionSize {
    /// Checks the range.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate(self) -> Result<()> {
        match self {
            Self::KeepRatio(r) if r > 0.0 && r <= 1.0 => Ok(()),
            Self::KeepRatio(r) => Err(Error::config("keep_ratio", r, "want a ratio in (0, 1]")),
            Self::KeptLen(0) => Err(Error::config("kept_len", 0, "want at least 1")),
            Self::KeptLen(_) => Ok(()),
        }
    }

    /// Positions of a trajectory of `seq_len`, rounded up and at most all of them.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn resolve(self, seq_len: usize) -> Result<usize> {
        self.validate()?;
        Ok(match self {
            Self::KeepRatio(r) => (r * seq_len as f64).ceil() as usize,
            Self::KeptLen(t) => t.min(seq_len),
        })
    }
}
