//! H2O: heavy hitters of the context's own attention, and a recent window.

use candle_core::{D, Device, Tensor};

use super::Scene;
use crate::error::{AtLayer, Result};
use crate::kept::Kept;
use crate::layout::{LayerKv, Padding, to_f32};
use crate::softmax::{logits, weights_at};

/// Logits held at once, in elements: 64 MB of f32.
const TILE: usize = 16 << 20;
/// Stands in for the maximum of a row that sees no key, and for its mass.
const NO_KEY: (f64, f64) = (-1e30, 1e-30);

/// Half of the budget goes to the most recent positions, half to those with the largest accumulated causal attention
/// (Zhang et al., arXiv 2306.14048, section 4).
///
/// Simplified: the paper evicts one position per step, so that evicted keys are gone from later attention; here the
/// attention of the whole prefill is accumulated over the full cache and the cut is made once. The heads of a group share
/// their KV head's cache, so their attention is summed. Queries of padding slots do not count.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    let contexts = scene.observation.context.unwrap_or(&[]);
    let one = |(index, (layer, queries)): (usize, (&LayerKv, &Tensor))| -> Result<Kept> {
        let count = scene.budget(index);
        let lists = (0..layer.kv_heads()).map(|head| {
            let scores = accumulated(scene, (index, head), layer, queries, TILE).at_layer(index)?;
            let live =
                (0..layer.seq_len()).rev().filter(|slot| !scene.padding[index].is_dead_in(head, *slot));
            let recent: Vec<u32> = live.take(count / 2).map(|slot| slot as u32).collect();
            scene.pick((index, head), count, &recent, &scores)
        });
        Ok(Kept::per_head(lists.collect::<Result<_>>()?))
    };
    scene.layers().iter().zip(contexts).enumerate().map(one).collect()
}

/// Attention that each slot of one head receives from its own and later positions, summed over them and the group.
///
/// Queries are taken in tiles, each against the keys that it can see.
fn accumulated(
    scene: &Scene<'_>,
    (index, head): (usize, usize),
    layer: &LayerKv,
    queries: &Tensor,
    tile: usize,
) -> Result<Vec<f64>> {
    let (slots, width, group) = (layer.seq_len(), layer.head_dim(), scene.observation.group_size);
    let part = |tensor: &Tensor| -> Result<Tensor> { to_f32(&tensor.narrow(0, head, 1)?) };
    let (keys, bias) = (part(&layer.keys)?, layer.bias.as_ref().map(part).transpose()?);
    let queries = part(queries)?.reshape((group, slots, width))?;
    let rows = (tile / (group * slots)).clamp(1, slots);
    let mut sums = vec![0.0; slots];
    for start in (0..slots).step_by(rows) {
        let n = rows.min(slots - start);
        let end = start + n;
        let tile = queries.narrow(1, start, n)?.reshape((1, group * n, width))?;
        let bias = bias.as_ref().map(|bias| bias.narrow(1, 0, end)).transpose()?;
        let seen = logits(&tile, &keys.narrow(1, 0, end)?.contiguous()?, bias.as_ref(), layer.scale)?;
        let (mask, counts) = causal(start, n, &scene.padding[index], head, keys.device())?;
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

/// 0 where a query sees a slot and −∞ where it does not `[n, start + n]`, and whether the query counts `[n, 1]`.
fn causal(
    start: usize,
    n: usize,
    padding: &Padding,
    head: usize,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let end = start + n;
    let see =
        |row: usize| (0..end).map(move |slot| if slot <= start + row { 0f32 } else { f32::NEG_INFINITY });
    let mask: Vec<f32> = (0..n).flat_map(see).collect();
    let count = |row: usize| if padding.is_dead_in(head, start + row) { 0f32 } else { 1.0 };
    let counts: Vec<f32> = (0..n).map(count).collect();
    Ok((Tensor::from_vec(mask, (n, end), device)?, Tensor::from_vec(counts, (n, 1), device)?))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::accumulated;
    use crate::Protected;
    use crate::baselines::{Observation, Scene};
    use crate::layout::{LayerKv, Padding};

    #[test]
    fn tiles_change_nothing() {
        let random = |rows| Tensor::randn(0f32, 1.0, (2, rows, 8), &Device::Cpu).unwrap();
        let layers = [LayerKv::new(random(21), random(21), None).unwrap()];
        let queries = [random(3 * 21)];
        let observation =
            Observation { layers: &layers, task: &[], context: Some(&queries), repeat: None, group_size: 3 };
        let (padding, protect) = ([Padding::default()], Protected::default());
        let scene = Scene { observation: &observation, padding: &padding, kept_len: 5, protect };
        let run = |tile| accumulated(&scene, (0, 1), &layers[0], &queries[0], tile).unwrap();
        let whole = run(usize::MAX);
        // Every query hands out one.
        assert!((whole.iter().sum::<f64>() - 63.0).abs() < 1e-4);
        for tile in [1, 3 * 21 * 2, 3 * 21 * 5] {
            assert!(run(tile).iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
