//! H2O: heavy hitters of the context's own attention, and a recent window.

use candle_core::{D, Device, Tensor};

use super::{Budgets, Needs, Picked, Selector};
use crate::config::ensure;
use crate::error::Result;
use crate::layout::{LayerKv, to_f32};
use crate::mask::Ranking;
use crate::reference::{logits, weights_at};
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "h2o";
/// Logits held at once, in elements: 64 MB of f32.
const TILE: usize = 16 << 20;
/// Stands in for the maximum of a row that sees no key, and for its mass.
const NO_KEY: (f64, f64) = (-1e30, 1e-30);
/// Share of the window, as in the paper.
const RECENT: f64 = 0.5;

/// A part of the budget goes to the most recent positions, the rest to those with the largest accumulated causal attention
/// (Zhang et al., arXiv 2306.14048, section 4).
///
/// Simplified: the paper evicts one position per step, so that evicted keys are gone from later attention; here the
/// attention of the whole prefill is accumulated over the full cache and the cut is made once. The heads of a group share
/// their KV head's cache, so their attention is summed. Queries of padding slots do not count. kvpress has no H2O: its
/// `ObservedAttentionPress` takes the mean over the queries that see a slot where this is their sum, and keeps no window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct H2o {
    /// The window's share of the budget, 0 to 1. Default 0.5.
    pub recent: f64,
}

impl Default for H2o {
    fn default() -> Self {
        Self { recent: RECENT }
    }
}

pub(super) fn factory() -> Factory {
    let factory = Factory::new(
        NAME,
        "heavy hitters of the context's own attention, and the most recent positions",
        |arguments| Ok(H2o { recent: arguments.get_or("recent", "a number", RECENT)? }),
    );
    factory.key("recent", "share of the most recent positions (0.5)")
}

impl Selector for H2o {
    fn spec(&self) -> Spec {
        Spec::new(NAME).with_unless("recent", self.recent, &RECENT)
    }

    fn needs(&self) -> Needs {
        Needs::CONTEXT
    }

    fn budgets(&self) -> Budgets {
        Budgets::Counts
    }

    fn validate(&self) -> Result<()> {
        ensure((0.0..=1.0).contains(&self.recent), "h2o.recent", self.recent, "must be within 0..=1")
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let contexts = scene.context()?;
        scene.each_head(|layer, head| {
            let cache = &scene.layers()[layer];
            let is_padding = |slot: usize| scene.is_padding(layer, head, slot);
            let part = HeadOf { layer: cache, queries: &contexts[layer], group: scene.group_size(), head };
            let mut scores = part.accumulated(&is_padding, TILE)?;
            let window = (scene.count(layer, head)? as f64 * self.recent) as usize;
            let slots = cache.seq_len();
            // Above all that queries can hand out, the latest first.
            let above = (slots * part.group) as f64;
            for slot in (0..slots).rev().filter(|slot| !is_padding(*slot)).take(window) {
                scores[slot] = above + (slot + 1) as f64;
            }
            scene.pick(layer, head, Ranking::by(&scene.pool(&scores)).padding_last())
        })
    }
}

/// One head with the queries that read it.
struct HeadOf<'a> {
    layer: &'a LayerKv,
    queries: &'a Tensor,
    group: usize,
    head: usize,
}

impl HeadOf<'_> {
    /// Attention that each slot receives from its own and later positions, summed over them and the group.
    ///
    /// Queries are taken in tiles, each against the keys that it can see.
    fn accumulated(&self, is_padding: &dyn Fn(usize) -> bool, tile: usize) -> Result<Vec<f64>> {
        let (slots, width, group) = (self.layer.seq_len(), self.layer.head_dim(), self.group);
        let part = |tensor: &Tensor| -> Result<Tensor> { to_f32(&tensor.narrow(0, self.head, 1)?) };
        let (keys, bias) = (part(&self.layer.keys)?, self.layer.bias.as_ref().map(part).transpose()?);
        let queries = part(self.queries)?.reshape((group, slots, width))?;
        let rows = (tile / (group * slots)).clamp(1, slots);
        let mut sums = vec![0.0; slots];
        for start in (0..slots).step_by(rows) {
            let n = rows.min(slots - start);
            let end = start + n;
            let tile = queries.narrow(1, start, n)?.reshape((1, group * n, width))?;
            let bias = bias.as_ref().map(|bias| bias.narrow(1, 0, end)).transpose()?;
            let seen =
                logits(&tile, &keys.narrow(1, 0, end)?.contiguous()?, bias.as_ref(), self.layer.scale)?;
            let (mask, counts) = causal(start, n, is_padding, keys.device())?;
            let seen = seen.reshape((group, n, end))?.broadcast_add(&mask)?;
            let max = seen.max_keepdim(D::Minus1)?.maximum(NO_KEY.0)?;
            let weights = weights_at(&seen, &max)?;
            let mass = weights.sum_keepdim(D::Minus1)?.maximum(NO_KEY.1)?;
            let attention = weights.broadcast_div(&mass)?.broadcast_mul(&counts)?;
            let tile_sums = attention.sum(0)?.sum(0)?.to_vec1::<f32>()?;
            sums.iter_mut().zip(tile_sums).for_each(|(sum, more)| *sum += f64::from(more));
        }
        Ok(sums)
    }
}

/// 0 where a query sees a slot and −∞ where it does not `[n, start + n]`, and whether the query counts `[n, 1]`.
fn causal(
    start: usize,
    n: usize,
    is_padding: &dyn Fn(usize) -> bool,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let end = start + n;
    let see =
        |row: usize| (0..end).map(move |slot| if slot <= start + row { 0f32 } else { f32::NEG_INFINITY });
    let mask: Vec<f32> = (0..n).flat_map(see).collect();
    let counts: Vec<f32> = (0..n).map(|row| if is_padding(start + row) { 0f32 } else { 1.0 }).collect();
    Ok((Tensor::from_vec(mask, (n, end), device)?, Tensor::from_vec(counts, (n, 1), device)?))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::HeadOf;
    use crate::layout::LayerKv;

    #[test]
    fn tiles_change_nothing() {
        let random = |rows| Tensor::randn(0f32, 1.0, (2, rows, 8), &Device::Cpu).unwrap();
        let (layer, queries) = (LayerKv::new(random(21), random(21), None).unwrap(), random(3 * 21));
        let head = HeadOf { layer: &layer, queries: &queries, group: 3, head: 1 };
        let run = |tile| head.accumulated(&|_| false, tile).unwrap();
        let whole = run(usize::MAX);
        // Every query hands out one.
        assert!((whole.iter().sum::<f64>() - 63.0).abs() < 1e-4);
        for tile in [1, 3 * 21 * 2, 3 * 21 * 5] {
            assert!(run(tile).iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
