//! What to keep and how to correct it: plain settings with units, ranges and defaults.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The largest pooling kernel that is accepted, in positions.
const MAX_POOLING: usize = 255;
/// The largest τ that is accepted; far above it only protected positions stay anyway.
const MAX_TAU: f64 = 1e6;

/// How one compaction is done. Build it with [`mad`](Self::mad), [`keep_ratio`](Self::keep_ratio) or
/// [`kept_len`](Self::kept_len) and the `with_*` methods; [`compact`](crate::compact) validates it.
///
/// ```
/// use lb_am::{Compaction, ValuesMethod};
/// let config = Compaction::keep_ratio(0.1).with_pooling(5).with_values(ValuesMethod::Copy);
/// assert!(config.validate().is_ok());
/// assert!(Compaction::keep_ratio(0.0).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// How many positions stay. Default: the MAD rule with τ = 4.
    pub budget: Budget,
    /// One mask for all layers, or one per layer. Default [`MaskScope::Shared`].
    pub mask: MaskScope,
    /// How a position's attention is aggregated over queries. Default [`ScoreAgg::Mean`].
    pub score: ScoreAgg,
    /// How scores are aggregated over layers and KV heads. Default [`HeadAgg::Mean`].
    pub across: HeadAgg,
    /// Width of the max-pool over neighbouring positions, odd, 1 to 255; 1 = off. Default 9.
    ///
    /// A question attends to the phrase that names a fact; the pool keeps the value behind it as well.
    pub pooling: usize,
    /// Positions that always stay.
    pub protect: Protected,
    /// How key biases are fitted.
    pub beta: BetaMethod,
    /// How values are refitted.
    pub values: ValuesMethod,
}

/// How many positions stay. Protected positions count towards every budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Budget {
    /// Keep what scores above median + τ · MAD, so the scores decide how much stays.
    Mad {
        /// Distance from the median in median absolute deviations, 0 to 1e6. Higher keeps less.
        tau: f64,
        /// Keep at least this many positions, at least 1. Accuracy falls off a cliff behind τ = 8 without it.
        min_kept: usize,
        /// Keep at most this share of the positions, in (0, 1]. `min_kept` wins where they disagree.
        max_ratio: f64,
    },
    /// Keep ⌈r · S⌉ positions, r in (0, 1].
    KeepRatio(f64),
    /// Keep this many positions, at least 1; everything stays when it is S or more.
    KeptLen(usize),
}

/// Which layers share a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MaskScope {
    /// One mask for all layers and heads; all layers must have the same length.
    #[default]
    Shared,
    /// One mask per layer, shared by its heads; layers may differ in length.
    PerLayer,
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

/// Aggregation of position scores over layers and KV heads.
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

/// Positions that stay whatever their score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protected {
    /// The first positions, which carry attention sinks and the head of the template. Default 4.
    pub first: usize,
    /// The last positions. Default 0.
    pub last: usize,
}

/// How the key biases β are fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BetaMethod {
    /// β = 0: kept keys stand for themselves only.
    Zero,
    /// Non-negative least squares on the attention mass of the full cache.
    Nnls {
        /// Steps of projected gradient, 1 to 100 000. Default 64.
        iterations: usize,
        /// |β| stays within this bound, in (0, 20]. Default 3.0.
        bound: f64,
    },
}

/// How the compacted values are obtained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ValuesMethod {
    /// The original values of the kept positions.
    Copy,
    /// Ridge towards the original values, stiffer where the task looks.
    Ridge {
        /// Strength relative to the mean diagonal of X Ω⁻¹ Xᵀ, 1e-6 to 1e6. Default 1.0.
        lambda: f64,
        /// Exponent p of the importance weights ω = (g / mean g)^p, 0 to 8; 0 is the plain ridge. Default 1.0.
        importance: f64,
    },
    /// Ridge towards zero with a vanishing λ, the default of the AM reference, which is meant for thousands of
    /// queries. It overfits a short task prompt; it is here to be compared with.
    LeastSquares,
}

impl Default for Compaction {
    fn default() -> Self {
        Self::mad(4.0)
    }
}

impl Default for Protected {
    fn default() -> Self {
        Self { first: 4, last: 0 }
    }
}

impl Default for BetaMethod {
    fn default() -> Self {
        Self::Nnls { iterations: 64, bound: 3.0 }
    }
}

impl Default for ValuesMethod {
    fn default() -> Self {
        Self::Ridge { lambda: 1.0, importance: 1.0 }
    }
}

impl Compaction {
    /// Keeps positions whose score is above median + τ · MAD, and 32 at the least.
    pub fn mad(tau: f64) -> Self {
        Self::with_budget(Budget::Mad { tau, min_kept: 32, max_ratio: 1.0 })
    }

    /// Keeps the share `ratio` of the positions, in (0, 1].
    pub fn keep_ratio(ratio: f64) -> Self {
        Self::with_budget(Budget::KeepRatio(ratio))
    }

    /// Keeps `len` positions.
    pub fn kept_len(len: usize) -> Self {
        Self::with_budget(Budget::KeptLen(len))
    }

    /// Defaults with the given budget.
    pub fn with_budget(budget: Budget) -> Self {
        Self {
            budget,
            mask: MaskScope::default(),
            score: ScoreAgg::default(),
            across: HeadAgg::default(),
            pooling: 9,
            protect: Protected::default(),
            beta: BetaMethod::default(),
            values: ValuesMethod::default(),
        }
    }

    /// Sets [`mask`](Self::mask).
    #[must_use]
    pub fn with_mask(self, mask: MaskScope) -> Self {
        Self { mask, ..self }
    }

    /// Sets [`pooling`](Self::pooling).
    #[must_use]
    pub fn with_pooling(self, pooling: usize) -> Self {
        Self { pooling, ..self }
    }

    /// Sets [`protect`](Self::protect).
    #[must_use]
    pub fn with_protect(self, protect: Protected) -> Self {
        Self { protect, ..self }
    }

    /// Sets [`beta`](Self::beta).
    #[must_use]
    pub fn with_beta(self, beta: BetaMethod) -> Self {
        Self { beta, ..self }
    }

    /// Sets [`values`](Self::values).
    #[must_use]
    pub fn with_values(self, values: ValuesMethod) -> Self {
        Self { values, ..self }
    }

    /// Sets [`score`](Self::score).
    #[must_use]
    pub fn with_score(self, score: ScoreAgg) -> Self {
        Self { score, ..self }
    }

    /// Sets [`across`](Self::across).
    #[must_use]
    pub fn with_across(self, across: HeadAgg) -> Self {
        Self { across, ..self }
    }

    /// Checks every range.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.budget.validate()?;
        ensure(
            self.pooling % 2 == 1 && self.pooling <= MAX_POOLING,
            "pooling",
            self.pooling,
            "must be odd and within 1..=255 positions",
        )?;
        self.beta.validate()?;
        self.values.validate()
    }
}

impl Budget {
    fn validate(&self) -> Result<()> {
        match *self {
            Self::Mad { tau, min_kept, max_ratio } => {
                ensure((0.0..=MAX_TAU).contains(&tau), "budget.tau", tau, "must be within 0..=1e6")?;
                ensure(min_kept >= 1, "budget.min_kept", min_kept, "must be at least 1")?;
                ensure(is_ratio(max_ratio), "budget.max_ratio", max_ratio, "must be within (0, 1]")
            }
            Self::KeepRatio(ratio) => {
                ensure(is_ratio(ratio), "budget.keep_ratio", ratio, "must be within (0, 1]")
            }
            Self::KeptLen(len) => ensure(len >= 1, "budget.kept_len", len, "must be at least 1"),
        }
    }
}

impl BetaMethod {
    fn validate(&self) -> Result<()> {
        match *self {
            Self::Zero => Ok(()),
            Self::Nnls { iterations, bound } => {
                let range = 1..=100_000;
                ensure(
                    range.contains(&iterations),
                    "beta.iterations",
                    iterations,
                    "must be within 1..=100000",
                )?;
                ensure(bound > 0.0 && bound <= 20.0, "beta.bound", bound, "must be within (0, 20]")
            }
        }
    }
}

impl ValuesMethod {
    fn validate(&self) -> Result<()> {
        match *self {
            Self::Copy | Self::LeastSquares => Ok(()),
            Self::Ridge { lambda, importance } => {
                let range = 1e-6..=1e6;
                ensure(range.contains(&lambda), "values.lambda", lambda, "must be within 1e-6..=1e6")?;
                ensure(
                    (0.0..=8.0).contains(&importance),
                    "values.importance",
                    importance,
                    "must be within 0..=8",
                )
            }
        }
    }
}

fn is_ratio(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

fn ensure(
    holds: bool,
    field: &'static str,
    value: impl std::fmt::Display,
    reason: &'static str,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { field, value: value.to_string(), reason }) }
}
