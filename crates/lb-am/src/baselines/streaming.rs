//! StreamingLLM: attention sinks and a recent window.

use super::Scene;
use crate::error::Result;
use crate::kept::Kept;

/// Positions that serve as attention sinks (section 3.2).
const SINKS: usize = 4;

/// The first 4 positions and the most recent ones (Xiao et al., arXiv 2309.17453, section 3.2).
///
/// Simplified: keys keep the rotation of their own positions, where the paper counts positions inside the cache; sinks take
/// half of the budget at most, so that a tiny budget still has a window. Protected positions stay besides; sinks among
/// them are not counted twice. Padding is skipped when sinks are counted.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    let head = |layer: usize, head: usize| {
        let slots = scene.layers()[layer].seq_len();
        let live = (0..slots).filter(|slot| !scene.padding[layer].is_dead_in(head, *slot));
        let count = scene.budget(layer);
        let sinks: Vec<u32> = live.take(SINKS.min(count / 2)).map(|slot| slot as u32).collect();
        let recency: Vec<f64> = (0..slots).map(|slot| slot as f64).collect();
        scene.pick((layer, head), count, &sinks, &recency)
    };
    (0..scene.layers().len()).map(|layer| scene.common(layer, |h| head(layer, h))).collect()
}
