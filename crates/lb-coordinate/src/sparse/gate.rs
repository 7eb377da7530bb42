//! Which workers read a segment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which workers read a segment: `attention:1`, `bm25:2`, `random:1,seed=7`, `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gate {
    /// What it goes by.
    pub by: GateBy,
    /// How many workers read a segment, at least 1; where there are fewer, all of them.
    pub active: usize,
}

/// What a gate goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GateBy {
    /// Everyone reads everything.
    All,
    /// How much of a worker's attention the segment gets, beside nothing at all (Recurrent Independent Mechanisms, arXiv 1909.10893,
    /// input attention): the segment is read once behind the template's head, each worker's task behind it, and what a task's queries give
    /// the head, where attention goes that wants nothing, is what it gives the null input there. The workers that give the segment most are
    /// active.
    Attention,
    /// Words that task and segment share (Okapi BM25 over the segments so far); no token is read for it.
    Bm25,
    /// By lot.
    Random {
        /// Same seed, same workers.
        seed: u64,
    },
}

impl Gate {
    /// [`GateBy::Attention`] for so many workers a segment.
    pub fn attention(active: usize) -> Self {
        Self { by: GateBy::Attention, active }
    }

    /// Everyone.
    pub fn all() -> Self {
        Self { by: GateBy::All, active: usize::MAX }
    }

    pub(crate) fn validate(self) -> Result<()> {
        if self.active == 0 { Err(Error::config("active", 0, "want at least 1")) } else { Ok(()) }
    }

    /// The numbers of the workers that read, in order, of `scores`; equal scores go to who has read less so far, then to the earlier one.
    pub(super) fn choose(self, scores: &[f64], read: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|one, other| {
            scores[*other].total_cmp(&scores[*one]).then(read[*one].cmp(&read[*other])).then(one.cmp(other))
        });
        order.truncate(self.active);
        order.sort_unstable();
        order
    }
}

impl FromStr for Gate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::config("gate", text, "want all, attention:N, bm25:N or random:N,seed=S");
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        if name == "all" {
            return if rest.is_empty() { Ok(Self::all()) } else { Err(wrong()) };
        }
        let (count, seed) = match rest.split_once(",seed=") {
            Some((count, seed)) if name == "random" => (count, seed.parse().map_err(|_| wrong())?),
            Some(_) => return Err(wrong()),
            None => (rest, 0),
        };
        let by = match name {
            "attention" => GateBy::Attention,
            "bm25" => GateBy::Bm25,
            "random" => GateBy::Random { seed },
            _ => return Err(wrong()),
        };
        let gate = Self { by, active: count.parse().map_err(|_| wrong())? };
        gate.validate()?;
        Ok(gate)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            GateBy::All => write!(f, "all"),
            GateBy::Attention => write!(f, "attention:{}", self.active),
            GateBy::Bm25 => write!(f, "bm25:{}", self.active),
            GateBy::Random { seed: 0 } => write!(f, "random:{}", self.active),
            GateBy::Random { seed } => write!(f, "random:{},seed={seed}", self.active),
        }
    }
}

impl TryFrom<String> for Gate {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Gate> for String {
    fn from(gate: Gate) -> Self {
        gate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_written() {
        for text in ["all", "attention:1", "bm25:3", "random:2", "random:2,seed=9"] {
            assert_eq!(text.parse::<Gate>().unwrap().to_string(), text);
        }
        for wrong in ["", "all:1", "attention", "attention:0", "attention:1,seed=2", "some:1", "bm25:x"] {
            assert!(wrong.parse::<Gate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn equals_go_to_who_has_read_less() {
        let gate = Gate::attention(2);
        assert_eq!(gate.choose(&[0.1, 0.5, 0.5, 0.2], &[0; 4]), [1, 2]);
        assert_eq!(Gate::attention(1).choose(&[0.5, 0.5], &[3, 1]), [1]);
        assert_eq!(Gate::all().choose(&[0.0, 1.0], &[0, 0]), [0, 1]);
    }
}
