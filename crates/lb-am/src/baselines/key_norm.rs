//! Keys of the lowest norm.

use candle_core::D;

use super::Scene;
use crate::error::Result;
use crate::kept::Kept;
use crate::layout::to_f32;

/// The keys of the lowest L2 norm in each head (Devoto et al., arXiv 2406.11430).
///
/// Simplified: every layer is compacted, where the paper leaves out the first ones. No attention is computed, so a bias of
/// the cache has no say.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    let mut scores = Vec::with_capacity(scene.layers().len());
    for layer in scene.layers() {
        let norms = to_f32(&layer.keys)?.sqr()?.sum(D::Minus1)?.sqrt()?.to_vec2::<f32>()?;
        scores.push(norms.iter().map(|head| head.iter().map(|norm| -f64::from(*norm)).collect()).collect());
    }
    scene.pick_all(&scores, |layer| scene.budget(layer))
}
