//! FINCH: what the whole task looks at, by how many positions each of its tokens sees.

use candle_core::Tensor;
use rayon::prelude::*;

use super::lifted::{best, lifted};
use super::{Budgets, Needs, Picked, Selector};
use crate::error::{AtLayer, Result};
use crate::layout::{LayerKv, to_f32};
use crate::mask::Ranking;
use crate::reference::{logits, probabilities};
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "finch";
/// Logits held at once, in elements: 64 MB of f32.
const TILE: usize = 16 << 20;

/// The slots that the task's tokens attend to, each token's attention times the number of positions in front of it, by the
/// mean over tokens and the group (Corallo and Papotti, arXiv 2408.00167, section 3; NVIDIA kvpress, `FinchPress`).
///
/// The paper reads a document chunk by chunk, each with the question behind it, and cuts every chunk at the same ratio:
/// with `chunk`, every so many slots share the count out by their own best.
///
/// Simplified: all keys are there before the first cut, where a later chunk of the paper sees what is left of the earlier
/// ones; attention among the task's own tokens is left out of the softmax, as the task is no part of the cache; keys keep
/// the rotation of their own positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finch {
    /// Slots of a chunk; 0, the default as in kvpress, takes all slots together.
    pub chunk: usize,
}

pub(super) fn factory() -> Factory {
    let factory = Factory::new(NAME, "what the whole task looks at, chunk by chunk", |arguments| {
        Ok(Finch { chunk: arguments.get_or("chunk", "a whole number of positions", 0)? })
    });
    factory.key("chunk", "positions that share the count out among themselves (0: all)")
}

impl Selector for Finch {
    fn spec(&self) -> Spec {
        Spec::new(NAME).with_unless("chunk", self.chunk, &0)
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn budgets(&self) -> Budgets {
        // Chunks share out a count.
        if self.chunk == 0 { Budgets::Any } else { Budgets::Counts }
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let of_layer = |(index, layer): (usize, &LayerKv)| -> Result<Vec<Vec<f64>>> {
            let heads = (0..layer.kv_heads()).into_par_iter();
            heads.map(|head| scores(scene, index, head)).collect::<Result<_>>().at_layer(index)
        };
        let layers = scene.layers().par_iter().enumerate();
        let scores = scene.pool_heads(layers.map(of_layer).collect::<Result<Vec<_>>>()?);
        scene.share_out(&scores)?;
        scene.each_head(|layer, head| {
            let scores = &scores[layer][head];
            if self.chunk == 0 {
                return scene.pick(layer, head, Ranking::by(scores).padding_last());
            }
            let first = self.best_of_chunks(scene, layer, head, scores)?;
            let ranked = lifted(scene, scores, &first);
            scene.pick(layer, head, Ranking::by(&ranked).padding_last())
        })
    }
}

/// Scores of one head, about one in sum.
fn scores(scene: &Scene<'_>, layer: usize, head: usize) -> Result<Vec<f64>> {
    let cache = &scene.layers()[layer];
    let seen = (0..cache.seq_len()).filter(|slot| !scene.is_padding(layer, head, *slot)).count();
    let queries = to_f32(&scene.queries()[layer].narrow(0, head, 1)?)?;
    normalised(cache, head, &queries, scene.group_size(), seen, TILE)
}

impl Finch {
    /// What each chunk keeps of the count: its share, protected slots first, rounded so that all add up.
    fn best_of_chunks(
        self,
        scene: &Scene<'_>,
        layer: usize,
        head: usize,
        scores: &[f64],
    ) -> Result<Vec<usize>> {
        let (slots, count) = (scores.len(), scene.count(layer, head)?);
        let mut first = Vec::with_capacity(count);
        for start in (0..slots).step_by(self.chunk) {
            let end = (start + self.chunk).min(slots);
            let share = count * end / slots - count * start / slots;
            let protected = (start..end).filter(|slot| scene.is_protected(layer, *slot)).count();
            let competes =
                |slot: &usize| !scene.is_protected(layer, *slot) && !scene.is_padding(layer, head, *slot);
            let others = (start..end).filter(competes).collect();
            first.extend(best(scores, others, share.saturating_sub(protected)));
        }
        Ok(first)
    }
}

/// Mean over the rows of `queries` `[1, group · tokens, d]` of attention times (seen + token) / seen, where a token sees
/// `seen` slots and the tokens before it.
fn normalised(
    layer: &LayerKv,
    head: usize,
    queries: &Tensor,
    group: usize,
    seen: usize,
    tile: usize,
) -> Result<Vec<f64>> {
    let part = |tensor: &Tensor| -> Result<Tensor> { to_f32(&tensor.narrow(0, head, 1)?) };
    let (keys, bias) = (part(&layer.keys)?, layer.bias.as_ref().map(part).transpose()?);
    let (slots, rows) = (layer.seq_len(), queries.dim(1)?);
    let tokens = rows / group;
    let weight = |row: usize| ((seen + row % tokens) as f64 / (seen * rows) as f64) as f32;
    let step = (tile / slots).clamp(1, rows);
    let mut sums = vec![0.0; slots];
    for start in (0..rows).step_by(step) {
        let n = step.min(rows - start);
        let tile = queries.narrow(1, start, n)?.contiguous()?;
        let attention = probabilities(&logits(&tile, &keys, bias.as_ref(), layer.scale)?)?;
        let weights: Vec<f32> = (start..start + n).map(weight).collect();
        let weights = Tensor::from_vec(weights, (1, n), keys.device())?;
        let more = weights.matmul(&attention.squeeze(0)?)?.squeeze(0)?.to_vec1::<f32>()?;
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += f64::from(more));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::normalised;
    use crate::layout::LayerKv;

    #[test]
    fn tiles_change_nothing() {
        let random = |rows| Tensor::randn(0f32, 1.0, (2, rows, 8), &Device::Cpu).unwrap();
        let layer = LayerKv::new(random(21), random(21), None).unwrap();
        let queries = random(3 * 5).narrow(0, 1, 1).unwrap();
        let run = |tile| normalised(&layer, 1, &queries, 3, 21, tile).unwrap();
        let whole = run(usize::MAX);
        // 21 to 25 positions in front of a token, 23 of 21 on average.
        assert!((whole.iter().sum::<f64>() - 23.0 / 21.0).abs() < 1e-5);
        for tile in [1, 21 * 2, 21 * 7] {
            assert!(run(tile).iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}
