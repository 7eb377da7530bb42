//! How many positions stay, in all and in each head.

use serde::{Deserialize, Serialize};

use super::{ensure, is_ratio};
use crate::error::{Error, Result};

/// The largest τ that is accepted; far above it only protected positions stay anyway.
const MAX_TAU: f64 = 1e6;

/// How many positions stay. Protected positions count towards every budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Budget {
    /// Keep what scores above median + τ · MAD, so the scores decide how much stays. With a selection per head, each
    /// head has its own median, and heads keep different counts.
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
    /// Keep the fewest positions that hold a share of the sum of the scores. With a selection per head and mean scores that is
    /// a share of each head's attention mass, and heads keep different counts.
    Coverage {
        /// The share, in (0, 1].
        share: f64,
        /// Keep at least this many positions, at least 1.
        min_kept: usize,
    },
    /// Keep as few positions as hold the estimated error below ε.
    ///
    /// The error is ‖Ŷ − Y‖ / ‖Y‖ of the attention output over all layers and heads, estimated by cross-fitting: the
    /// task's tokens are split in two, each half selects and fits, the other half is measured. The smallest count is
    /// found by bisection, to 2 % of itself.
    ErrorBelow {
        /// ε, in (0, 10).
        epsilon: f64,
        /// Keep at least this many positions, at least 1.
        min_kept: usize,
    },
}

impl Budget {
    pub(super) fn validate(&self) -> Result<()> {
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
            Self::Coverage { share, min_kept } => {
                ensure(is_ratio(share), "budget.share", share, "must be within (0, 1]")?;
                ensure(min_kept >= 1, "budget.min_kept", min_kept, "must be at least 1")
            }
            Self::ErrorBelow { epsilon, min_kept } => {
                let holds = epsilon > 0.0 && epsilon < 10.0;
                ensure(holds, "budget.epsilon", epsilon, "must be within (0, 10)")?;
                ensure(min_kept >= 1, "budget.min_kept", min_kept, "must be at least 1")
            }
        }
    }
}

/// Shares of the whole budget, one for each (layer, KV head), as AM's non-uniform budgets (arXiv 2602.16284) are.
///
/// A share of 1 / (layers · heads) is the mean. They are measured once for a model and hold for any budget; see
/// [`exchange`](crate::budgets::exchange). Saved as JSON: `{"shares": [[0.2, 0.3], [0.1, 0.4]]}`, layer by layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadBudgets {
    /// `shares[layer][head]`, not negative; they are scaled to a sum of 1.
    pub shares: Vec<Vec<f64>>,
}

impl HeadBudgets {
    /// The same share for every head.
    pub fn uniform(layers: usize, kv_heads: usize) -> Self {
        let share = 1.0 / (layers * kv_heads).max(1) as f64;
        Self { shares: vec![vec![share; kv_heads]; layers] }
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for text that is no JSON of this form, and for shares that are negative, not finite, or sum to
    /// nothing.
    pub fn from_json(text: &str) -> Result<Self> {
        let budgets: Self = serde_json::from_str(text).map_err(|error| Error::Config {
            field: "head_budgets",
            value: error.to_string(),
            reason: "is not the JSON of head budgets",
        })?;
        budgets.validate()?;
        Ok(budgets)
    }

    /// As JSON, one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("lists of numbers")
    }

    /// Checks every share.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for shares that are negative, not finite, or sum to nothing.
    pub fn validate(&self) -> Result<()> {
        let all = || self.shares.iter().flatten();
        if let Some(share) = all().find(|share| !(share.is_finite() && **share >= 0.0)) {
            return ensure(false, "head_budgets.shares", share, "must be finite and not negative");
        }
        let sum: f64 = all().sum();
        ensure(sum > 0.0 && sum.is_finite(), "head_budgets.shares", sum, "must sum to more than nothing")
    }
}
