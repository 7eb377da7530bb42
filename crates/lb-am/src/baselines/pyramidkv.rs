//! PyramidKV: SnapKV with more budget in lower layers.

use super::{Scene, snapkv};
use crate::error::Result;
use crate::kept::Kept;

/// The last layer gets the mean budget divided by this; β in the paper, 20 in the authors' code.
const STEEPNESS: usize = 20;

/// SnapKV's scores with budgets that fall linearly from the first layer to the last, the same in sum (Cai et al., arXiv
/// 2406.02069, section 4).
///
/// Simplified as SnapKV is. The last layer gets a twentieth of the mean and the first what makes up for it; where the
/// first would exceed the cache, the slope is made flatter, as in the authors' code. Rounding down is made good in the
/// lowest layers, and no layer goes below its protected positions.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    let counts = budgets(scene);
    scene.pick_all(&snapkv::scores(scene)?, |layer| counts[layer])
}

/// Slots per head of each layer.
fn budgets(scene: &Scene<'_>) -> Vec<usize> {
    let layers = scene.layers();
    let uniform: Vec<usize> = (0..layers.len()).map(|layer| scene.budget(layer)).collect();
    let total: usize = uniform.iter().sum();
    let mean = total as f64 / layers.len() as f64;
    let room = layers.iter().map(|layer| layer.seq_len() as f64).fold(f64::INFINITY, f64::min);
    let first = (2.0 * mean - mean / STEEPNESS as f64).min(room.max(mean));
    let last = 2.0 * mean - first;
    let steps = (layers.len() - 1).max(1) as f64;
    let linear = |layer: usize| {
        let at = if layers.len() == 1 { mean } else { first + (last - first) * layer as f64 / steps };
        let least = scene.protected(layer).max(1);
        (at as usize).clamp(least, layers[layer].seq_len())
    };
    let mut counts: Vec<usize> = (0..layers.len()).map(linear).collect();
    settle(scene, &mut counts, total);
    counts
}

/// Adds or takes single slots, from the lowest or the highest layers, until the sum is `total`.
fn settle(scene: &Scene<'_>, counts: &mut [usize], total: usize) {
    loop {
        let sum: usize = counts.iter().sum();
        let mut missing = total.saturating_sub(sum);
        let mut excess = sum.saturating_sub(total);
        if missing == 0 && excess == 0 {
            return;
        }
        for (layer, count) in counts.iter_mut().enumerate() {
            if missing > 0 && *count < scene.layers()[layer].seq_len() {
                (*count, missing) = (*count + 1, missing - 1);
            }
        }
        for (layer, count) in counts.iter_mut().enumerate().rev() {
            if excess > 0 && *count > scene.protected(layer).max(1) {
                (*count, excess) = (*count - 1, excess - 1);
            }
        }
    }
}
