//! PyramidKV: SnapKV with more budget in lower layers.

use super::{Budgets, Needs, Picked, Selector, SnapKv, snapkv};
use crate::config::ensure;
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "pyramidkv";
/// β in the paper, 20 in the authors' code.
const STEEPNESS: usize = 20;

/// SnapKV's scores with budgets that fall linearly from the first layer to the last, the same in sum (Cai et al., arXiv
/// 2406.02069, section 4).
///
/// Simplified as SnapKV is. The last layer gets the mean divided by the steepness and the first what makes up for it; where
/// the first would exceed the cache, the slope is made flatter, as in the authors' code. Rounding down is made good in the
/// lowest layers, and no layer goes below its protected positions. kvpress (`PyramidKVPress`) rounds each layer to the
/// nearest, counts the window's own slots into the slope, and falls back to equal counts where the last layer would have
/// fewer than the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PyramidKv {
    /// Whose scores they are.
    pub snapkv: SnapKv,
    /// The mean budget over that of the last layer, at least 1. Default 20.
    pub steepness: usize,
}

impl Default for PyramidKv {
    fn default() -> Self {
        Self { snapkv: SnapKv::default(), steepness: STEEPNESS }
    }
}

pub(super) fn factory() -> Factory {
    let factory = Factory::new(NAME, "snapkv with budgets that fall from layer to layer", |arguments| {
        let steepness = arguments.get_or("steepness", "a whole number", STEEPNESS)?;
        Ok(PyramidKv { snapkv: SnapKv::read(arguments)?, steepness })
    });
    snapkv::keys(factory).key("steepness", "mean budget over that of the last layer (20)")
}

impl Selector for PyramidKv {
    fn spec(&self) -> Spec {
        self.snapkv.write(Spec::new(NAME)).with_unless("steepness", self.steepness, &STEEPNESS)
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn needs_all_layers(&self) -> bool {
        true
    }

    fn budgets(&self) -> Budgets {
        Budgets::OwnCounts
    }

    fn validate(&self) -> Result<()> {
        self.snapkv.validate()?;
        ensure(self.steepness >= 1, "pyramidkv.steepness", self.steepness, "must be at least 1")
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let counts = self.counts(scene)?;
        let scores = self.snapkv.scores(scene)?;
        scene.each_head(|layer, head| {
            let ranking = Ranking::by(&scores[layer][head]).padding_last();
            scene.pick_count(layer, head, counts[layer], ranking)
        })
    }
}

impl PyramidKv {
    /// Slots per head of each layer.
    fn counts(self, scene: &Scene<'_>) -> Result<Vec<usize>> {
        let layers = scene.layers();
        let uniform = (0..layers.len()).map(|layer| scene.count(layer, 0)).collect::<Result<Vec<_>>>()?;
        let total: usize = uniform.iter().sum();
        let mean = total as f64 / layers.len() as f64;
        let room = layers.iter().map(|layer| layer.seq_len() as f64).fold(f64::INFINITY, f64::min);
        let first = (2.0 * mean - mean / self.steepness as f64).min(room.max(mean));
        let last = 2.0 * mean - first;
        let steps = (layers.len() - 1).max(1) as f64;
        let linear = |layer: usize| {
            let at = if layers.len() == 1 { mean } else { first + (last - first) * layer as f64 / steps };
            let least = scene.protected(layer).max(1);
            (at as usize).clamp(least, layers[layer].seq_len())
        };
        let mut counts: Vec<usize> = (0..layers.len()).map(linear).collect();
        settle(scene, &mut counts, total);
        Ok(counts)
    }
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
