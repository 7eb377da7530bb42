//! TOVA: what the last token looks at.

use super::{Scene, snapkv};
use crate::config::{HeadAgg, ScoreAgg};
use crate::error::Result;
use crate::kept::Kept;
use crate::scores::{layer_scores, observe_all};

/// The slots that the last token attends to, by the mean over all heads of the layer: one list per layer (Oren et al.,
/// arXiv 2401.06104, Token Omission Via Attention).
///
/// Simplified: the paper drops one position per step; here the cut is made once, for the last token of the task. Where
/// heads have different padding, each ranks its own slots by the layer's scores.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    let last = snapkv::last_tokens(scene, 1)?;
    let observed = observe_all(scene.layers(), &last, ScoreAgg::Mean, false)?;
    let layer = |(index, observed)| {
        let scores: Vec<f64> = layer_scores(observed, HeadAgg::Mean).into_iter().map(f64::from).collect();
        scene.common(index, |head| scene.pick((index, head), scene.budget(index), &[], &scores))
    };
    observed.iter().enumerate().map(layer).collect()
}
