//! What positions are ranked by, and which stay in any case.

use serde::{Deserialize, Serialize};

use super::{ensure, is_share};
use crate::error::Result;

/// The largest span that is accepted, in positions.
const MAX_WIDTH: usize = 255;

/// Aggregation of attention weights over queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScoreAgg {
    /// The mean.
    Mean,
    /// The largest: one query that needs a position is enough.
    Max,
    /// The root of the mean square, between the two.
    #[default]
    Rms,
}

/// Aggregation of position scores over layers and KV heads. A selection per head has nothing to aggregate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeadAgg {
    /// The mean, each (layer, KV head) counting once.
    #[default]
    Mean,
    /// The largest: one head that needs a position is enough.
    Max,
}

/// How neighbouring positions share their scores before anything is selected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Spans {
    /// The largest score of the positions around: a max-pool, centred, cut off at both ends.
    Max {
        /// Positions, odd, 1 to 255; 1 turns spans off.
        width: usize,
    },
    /// The mean score of the positions around, of those that exist.
    Mean {
        /// Positions, odd, 1 to 255; 1 turns spans off.
        width: usize,
    },
    /// The position's own score, or a part of the largest one around it, whichever is larger: what stands beside something that
    /// queries look at very much comes before what they look at a little. So spans are as wide as the scores are uneven.
    Faded {
        /// Positions, odd, 1 to 255; 1 turns spans off.
        width: usize,
        /// The part, 0 to 1: 0 turns spans off, 1 is [`Max`](Self::Max).
        factor: f64,
    },
    /// Whole units of the text: every position has the largest score of its unit, and a unit is kept whole or not at
    /// all. One that does not fit into what is left of the budget is passed over for the next best that does; only
    /// where not even the best unit fits is it cut. Where units begin is told by
    /// [`Compactor::units`](crate::Compactor::units).
    Units(Units),
}

/// What a unit of text is. It is the caller's matter to say where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Units {
    /// Sentences.
    Sentences,
    /// Segments of a trajectory.
    Segments,
}

impl Default for Spans {
    fn default() -> Self {
        Self::OFF
    }
}

impl Spans {
    /// No spans: every position for itself.
    pub const OFF: Self = Self::Max { width: 1 };

    pub(super) fn validate(&self) -> Result<()> {
        match *self {
            Self::Max { width } | Self::Mean { width } => {
                let reason = "must be odd and within 1..=255 positions";
                ensure(width % 2 == 1 && width <= MAX_WIDTH, "spans.width", width, reason)
            }
            Self::Faded { width, factor } => {
                Self::Max { width }.validate()?;
                ensure(is_share(factor), "spans.factor", factor, "must be within 0..=1")
            }
            Self::Units(_) => Ok(()),
        }
    }
}

/// Positions that stay whatever their score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protected {
    /// The first positions, which carry attention sinks. Default 1: where little is kept, each one that the task does
    /// not look at is missing elsewhere.
    pub first: usize,
    /// The last positions. Default 0.
    pub last: usize,
}

impl Default for Protected {
    fn default() -> Self {
        Self { first: 1, last: 0 }
    }
}
