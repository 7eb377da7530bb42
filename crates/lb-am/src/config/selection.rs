//! Which positions stay: what they are ranked by, and who ranks.

use serde::{Deserialize, Serialize};

use super::ensure;
use crate::error::Result;

/// The largest span that is accepted, in positions.
const MAX_WIDTH: usize = 255;

/// Which positions compete with which, and by what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Selection {
    /// One mask for all layers and heads (Latent Briefing); all layers must have the same length.
    Shared,
    /// One mask per layer, shared by its heads; layers may differ in length. Costs what a shared mask costs and loses
    /// less where little is kept, see `docs/fidelity.md`.
    #[default]
    PerLayer,
    /// The best positions of each KV head on its own (AM, arXiv 2602.16284, "highest attention keys").
    PerHead,
    /// Orthogonal matching pursuit of the attention mass in each KV head (AM, "OMP").
    Omp(Omp),
}

/// Orthogonal matching pursuit: keys are added one after another, each the one that explains most of the attention mass
/// still missing, and the weights of all are refitted in between (AM, arXiv 2602.16284, section 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Omp {
    /// How many keys are added at a time, and how often weights are refitted, as the selection grows. Default: one
    /// and one up to 300 keys, two and two up to 1,500, then four and two, the progressive schedule of the reference.
    pub schedule: Vec<OmpPhase>,
    /// Keys whose fitted β is at most this are dropped for good and replaced by others, once enough were found. Below
    /// 0; default: none are dropped.
    pub drop_below: Option<f64>,
}

/// A stretch of the schedule of [`Omp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OmpPhase {
    /// Holds until this many keys were found; `None` for the last phase.
    pub until: Option<usize>,
    /// Keys added at a time, at least 1.
    pub keys_per_step: usize,
    /// Steps from one refit to the next, at least 1.
    pub refit_every: usize,
}

impl Default for Omp {
    fn default() -> Self {
        let phase = |until, keys_per_step, refit_every| OmpPhase { until, keys_per_step, refit_every };
        Self {
            schedule: vec![phase(Some(300), 1, 1), phase(Some(1500), 2, 2), phase(None, 4, 2)],
            drop_below: None,
        }
    }
}

impl Omp {
    /// `keys_per_step` keys at a time, weights refitted every `refit_every` steps, however many there are.
    pub fn steady(keys_per_step: usize, refit_every: usize) -> Self {
        Self { schedule: vec![OmpPhase { until: None, keys_per_step, refit_every }], drop_below: None }
    }

    /// The phase that holds once `found` keys were found.
    pub(crate) fn phase(&self, found: usize) -> OmpPhase {
        let phase = self.schedule.iter().find(|phase| phase.until.is_none_or(|until| found < until));
        *phase.or(self.schedule.last()).expect("a validated schedule is not empty")
    }

    fn validate(&self) -> Result<()> {
        ensure(!self.schedule.is_empty(), "omp.schedule", "[]", "must have a phase")?;
        let mut before = 0;
        for (index, phase) in self.schedule.iter().enumerate() {
            let keys = phase.keys_per_step;
            ensure((1..=1024).contains(&keys), "omp.keys_per_step", keys, "must be within 1..=1024")?;
            let refit = phase.refit_every;
            ensure((1..=1024).contains(&refit), "omp.refit_every", refit, "must be within 1..=1024")?;
            let last = index + 1 == self.schedule.len();
            let until = phase.until.unwrap_or(usize::MAX);
            let rises = until > before && (phase.until.is_some() || last);
            ensure(rises, "omp.until", until, "must rise from phase to phase and be open in the last alone")?;
            before = until;
        }
        let below = self.drop_below.unwrap_or(-1.0);
        ensure(below < 0.0 && below.is_finite(), "omp.drop_below", below, "must be below 0")
    }
}

impl Selection {
    pub(super) fn validate(&self) -> Result<()> {
        match self {
            Self::Omp(omp) => omp.validate(),
            Self::Shared | Self::PerLayer | Self::PerHead => Ok(()),
        }
    }

    /// Whether each head selects on its own.
    pub(crate) fn is_per_head(&self) -> bool {
        matches!(self, Self::PerHead | Self::Omp(_))
    }
}

/// Aggregation of attention weights over queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScoreAgg {
    /// The mean.
    #[default]
    Mean,
    /// The largest: one query that needs a position is enough.
    Max,
    /// The root of the mean square, between the two.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        Self::Max { width: 9 }
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
