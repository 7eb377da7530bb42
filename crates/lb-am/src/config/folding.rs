//! What becomes of the slots that do not stay.

use serde::{Deserialize, Serialize};

use super::{ensure, is_share};
use crate::error::Result;

/// The largest rank that is accepted.
const MAX_RANK: usize = 64;

/// What the slots that do not stay leave to those that do, head by head, before anything is fitted.
///
/// Keys never change; only values and, with [`Mass`](Self::Mass), biases do. The fits go on from there: biases from the
/// folded ones, and values are held to the folded ones. Positions that are protected at the beginning carry attention sinks
/// and take nothing. Similarity is the cosine of two keys as they are stored, each rotated to its own position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Folding {
    /// Nothing.
    #[default]
    None,
    /// Each goes into the kept slot of the most similar key: with w = g_j / g_i of the scores of the two, the value is the mean
    /// of both by weight, and the bias rises by the logarithm of the weight that came in, ln(1 + Σ w) (Gast, 2026, *Folding
    /// discarded entries back into a compressed KV cache*, `MassFold` of kvfold 0.1.1; with w = 1 the votes of KeepKV, arXiv
    /// 2504.09936).
    ///
    /// g is the queries' attention as [`score`](crate::Compaction::score) aggregates it, before spans, where kvfold takes
    /// the scores that a method selects by.
    Mass,
    /// Values alone: each goes into the kept slot of the most similar key, where the two are similar enough, with a weight of
    /// their cosine times ‖v_j‖ / (‖v_j‖ + ‖v_i‖) to the 1 of the kept value (NVIDIA kvpress, `MergingPress`, after D2O, arXiv
    /// 2406.13035).
    ///
    /// D2O merges keys as well, weighs by the exponential of the cosine and moves its threshold while decoding.
    Similar {
        /// The least cosine, 0 to 1. Default in texts 0, as in kvpress.
        threshold: f64,
    },
    /// Values alone: what the values that go have outside the span of those that stay, on its principal axes, is added to all
    /// that stay: Orthogonal BackFill (arXiv 2604.13349; H-OBF is this on a selection per head).
    ///
    /// The addition is the mean residual by attention, times the attention that goes over that which stays. Where as many
    /// slots stay as a head is wide, their span is everything and nothing is added.
    Backfill {
        /// Principal axes of the residual, 1 to 64. Default in texts 2, as in the paper for H-OBF.
        rank: usize,
    },
}

impl Folding {
    pub(super) fn validate(self) -> Result<()> {
        match self {
            Self::None | Self::Mass => Ok(()),
            Self::Similar { threshold } => {
                ensure(is_share(threshold), "folding.threshold", threshold, "must be within 0..=1")
            }
            Self::Backfill { rank } => {
                ensure((1..=MAX_RANK).contains(&rank), "folding.rank", rank, "must be within 1..=64")
            }
        }
    }
}
