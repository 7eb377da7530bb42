//! How a count is shared out among heads that select on their own.

use serde::{Deserialize, Serialize};

use super::{ensure, is_share};
use crate::error::Result;

/// How the slots that all heads keep together are shared out among them. Whatever it is, their sum is what all heads would keep
/// alone by the budget.
///
/// Heads differ: one looks at three positions, another at three hundred. A head that has all that it looks at loses
/// nothing by giving the rest away, and what it leaves goes to where something is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Sharing {
    /// Each keeps what the budget gives it: the same count for each where that is a ratio or a length.
    #[default]
    Equal,
    /// The best scores of all heads of a layer, wherever they are (AdaKV, arXiv 2407.11550).
    Layer {
        /// The share of what it would keep alone that each head keeps in any case, 0 to 1. AdaKV's safeguard is 0.2.
        floor: f64,
    },
    /// The best scores of all heads of all layers (KVzip, arXiv 2505.23416, non-uniform budgets).
    All {
        /// As in [`Layer`](Self::Layer).
        floor: f64,
    },
    /// Each head keeps the fewest slots that hold one and the same share of the sum of its scores, as large a share as the
    /// whole count allows.
    Coverage {
        /// As in [`Layer`](Self::Layer).
        floor: f64,
    },
}

impl Sharing {
    /// The share of what it would keep alone that each head keeps in any case.
    pub fn floor(self) -> f64 {
        match self {
            Self::Equal => 1.0,
            Self::Layer { floor } | Self::All { floor } | Self::Coverage { floor } => floor,
        }
    }

    /// Whether a layer's count depends on the others'.
    pub fn spans_layers(self) -> bool {
        matches!(self, Self::All { .. } | Self::Coverage { .. })
    }

    pub(super) fn validate(self) -> Result<()> {
        ensure(is_share(self.floor()), "sharing.floor", self.floor(), "must be within 0..=1")
    }
}
