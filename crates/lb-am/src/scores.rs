//! What the task looks at: one pass over the full cache per layer gives position scores, mass and output.

use candle_core::Tensor;

use crate::config::{HeadAgg, ScoreAgg};
use crate::cpu;
use crate::error::{AtLayer, Result};
use crate::layout::{LayerKv, check_inputs, common_len, to_f32, transposed};
use crate::observed::{Observed, check_mass};
use crate::softmax::{Softmax, logits, softmax};

/// Logits held at once, in elements: 256 MB of f32.
const TILE: usize = 64 << 20;

/// Position scores g_j shared by all layers, before pooling: the queries' attention to each position, aggregated over
/// queries by `score`, then over layers and KV heads by `across` (AM, arXiv 2602.16284, section 3; the shared mask
/// is Latent Briefing's).
///
/// # Shapes
///
/// `queries[l]` is `[kv_heads, n_queries, head_dim]`, the heads of a group one after another; returns `seq_len`
/// scores.
///
/// # Numerics
///
/// Attention in f32 with one row maximum per query; sums over heads in f64.
///
/// # Errors
///
/// Those of [`compact`](crate::compact) on its inputs; layers of different lengths are a [`Error::Shape`](crate::Error::Shape).
pub fn position_scores(
    layers: &[LayerKv],
    queries: &[Tensor],
    score: ScoreAgg,
    across: HeadAgg,
) -> Result<Vec<f32>> {
    check_inputs(layers, queries)?;
    common_len(layers)?;
    let observed = observe_all(layers, queries, score, false)?;
    Ok(shared_scores(&observed, across))
}

/// Position scores of each layer on its own, before pooling, aggregated over its KV heads.
///
/// # Shapes
///
/// As [`position_scores`]; returns one list per layer, of that layer's length.
///
/// # Numerics
///
/// As [`position_scores`].
///
/// # Errors
///
/// Those of [`compact`](crate::compact) on its inputs.
pub fn layer_position_scores(
    layers: &[LayerKv],
    queries: &[Tensor],
    score: ScoreAgg,
    across: HeadAgg,
) -> Result<Vec<Vec<f32>>> {
    check_inputs(layers, queries)?;
    let observed = observe_all(layers, queries, score, false)?;
    Ok(observed.iter().map(|layer| layer_scores(layer, across)).collect())
}

/// Scores over all layers and heads; where layers differ in length, over those that reach a position.
pub(crate) fn shared_scores(observed: &[Observed], across: HeadAgg) -> Vec<f32> {
    aggregate(observed.iter().flat_map(|layer| &layer.scores), across)
}

/// Scores over the heads of one layer.
pub(crate) fn layer_scores(observed: &Observed, across: HeadAgg) -> Vec<f32> {
    aggregate(&observed.scores, across)
}

pub(crate) fn aggregate<'a>(rows: impl IntoIterator<Item = &'a Vec<f32>>, across: HeadAgg) -> Vec<f32> {
    let mut total: Vec<f64> = Vec::new();
    let mut count: Vec<f64> = Vec::new();
    for row in rows {
        total.resize(total.len().max(row.len()), 0.0);
        count.resize(total.len(), 0.0);
        for ((total, count), score) in total.iter_mut().zip(&mut count).zip(row) {
            match across {
                HeadAgg::Mean => *total += f64::from(*score),
                // Scores are attention weights, never below 0.
                HeadAgg::Max => *total = total.max(f64::from(*score)),
            }
            *count += 1.0;
        }
    }
    match across {
        HeadAgg::Mean => total.iter().zip(&count).map(|(total, count)| (total / count) as f32).collect(),
        HeadAgg::Max => total.iter().map(|total| *total as f32).collect(),
    }
}

/// Observes every layer; `with_output` also computes Y.
pub(crate) fn observe_all(
    layers: &[LayerKv],
    queries: &[Tensor],
    score: ScoreAgg,
    with_output: bool,
) -> Result<Vec<Observed>> {
    let observed = if on_cpu(layers) {
        cpu::observe_all(layers, queries, score, with_output)?
    } else {
        observe_plainly(layers, queries, Pass { score, with_output, tile: TILE })?
    };
    for (index, observed) in observed.iter().enumerate() {
        check_mass(observed, index)?;
    }
    Ok(observed)
}

fn observe_plainly(layers: &[LayerKv], queries: &[Tensor], pass: Pass) -> Result<Vec<Observed>> {
    layers
        .iter()
        .zip(queries)
        .enumerate()
        .map(|(index, (layer, queries))| pass.observe(layer, queries).at_layer(index))
        .collect()
}

fn on_cpu(layers: &[LayerKv]) -> bool {
    layers.iter().all(|layer| layer.keys.device().is_cpu())
}

#[derive(Clone, Copy)]
struct Pass {
    score: ScoreAgg,
    with_output: bool,
    /// Logits held at once, in elements.
    tile: usize,
}

/// One tile of [`Observed`], scores still on the device and not yet averaged.
struct Tile {
    max: Tensor,
    mass: Tensor,
    output: Option<Tensor>,
    scores: Tensor,
}

impl Pass {
    /// One layer, in tiles of whole heads, and of queries where one head is too large.
    fn observe(self, layer: &LayerKv, queries: &Tensor) -> Result<Observed> {
        let (heads, slots) = (layer.kv_heads(), layer.seq_len());
        let n = queries.dim(1)?;
        let heads_at_once = (self.tile / (n * slots)).clamp(1, heads);
        let queries = to_f32(queries)?;
        let mut tiles = Vec::new();
        for start in (0..heads).step_by(heads_at_once) {
            let count = heads_at_once.min(heads - start);
            tiles.push(self.observe_heads(layer, &queries.narrow(0, start, count)?, start)?);
        }
        let output = tiles.iter().map(|tile| tile.output.clone()).collect::<Option<Vec<_>>>();
        let scores = cat(tiles.iter().map(|tile| &tile.scores), 0)?.squeeze(1)?;
        Ok(Observed {
            max: cat(tiles.iter().map(|tile| &tile.max), 0)?,
            mass: cat(tiles.iter().map(|tile| &tile.mass), 0)?,
            output: output.map(|output| cat(&output, 0)).transpose()?,
            scores: self.finish(&scores, n)?.to_vec2()?,
            score: self.score,
        })
    }

    /// The heads from `start`, in tiles of queries.
    fn observe_heads(self, layer: &LayerKv, queries: &Tensor, start: usize) -> Result<Tile> {
        let (heads, n, _) = queries.dims3()?;
        let part = |tensor: &Tensor| -> Result<Tensor> { to_f32(&tensor.narrow(0, start, heads)?) };
        let keys = part(&layer.keys)?;
        let values = if self.with_output { Some(part(&layer.values)?) } else { None };
        let bias = layer.bias.as_ref().map(part).transpose()?;
        let queries_at_once = (self.tile / (heads * layer.seq_len())).clamp(1, n);
        let mut tiles: Vec<Tile> = Vec::new();
        for first in (0..n).step_by(queries_at_once) {
            let queries = queries.narrow(1, first, queries_at_once.min(n - first))?;
            tiles.push(
                self.observe_tile(&logits(&queries, &keys, bias.as_ref(), layer.scale)?, values.as_ref())?,
            );
        }
        let output = tiles.iter().map(|tile| tile.output.clone()).collect::<Option<Vec<_>>>();
        let mut scores = tiles[0].scores.clone();
        for tile in &tiles[1..] {
            scores = match self.score {
                ScoreAgg::Max => scores.maximum(&tile.scores)?,
                ScoreAgg::Mean | ScoreAgg::Rms => (scores + &tile.scores)?,
            };
        }
        Ok(Tile {
            max: cat(tiles.iter().map(|tile| &tile.max), 1)?,
            mass: cat(tiles.iter().map(|tile| &tile.mass), 1)?,
            output: output.map(|output| cat(&output, 1)).transpose()?,
            scores,
        })
    }

    fn observe_tile(self, logits: &Tensor, values: Option<&Tensor>) -> Result<Tile> {
        let Softmax { max, weights, mass } = softmax(logits)?;
        // Dividing by Z after each product keeps P itself out of memory.
        let inverse = mass.recip()?;
        let scores = match self.score {
            ScoreAgg::Mean => transposed(&inverse)?.contiguous()?.matmul(&weights)?,
            ScoreAgg::Rms => transposed(&inverse.sqr()?)?.contiguous()?.matmul(&weights.sqr()?)?,
            ScoreAgg::Max => weights.broadcast_mul(&inverse)?.max_keepdim(1)?,
        };
        let output = match values {
            Some(values) => Some(weights.matmul(values)?.broadcast_mul(&inverse)?),
            None => None,
        };
        Ok(Tile { max, mass, output, scores })
    }

    /// From sums over queries to the aggregate.
    fn finish(self, scores: &Tensor, n: usize) -> Result<Tensor> {
        let mean = 1.0 / n as f64;
        Ok(match self.score {
            ScoreAgg::Mean => (scores * mean)?,
            ScoreAgg::Rms => (scores * mean)?.sqrt()?,
            ScoreAgg::Max => scores.clone(),
        })
    }
}

fn cat<'a>(tensors: impl IntoIterator<Item = &'a Tensor>, dim: usize) -> Result<Tensor> {
    Ok(Tensor::cat(&tensors.into_iter().collect::<Vec<_>>(), dim)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{Observed, Pass};
    use crate::cpu;
    use crate::{LayerKv, ScoreAgg};

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{a} against {b}");
        }
    }

    #[test]
    fn tiles_change_nothing() {
        let random = |dims: [usize; 3]| Tensor::randn(0f32, 1.0, &dims, &Device::Cpu).unwrap();
        let bias = Tensor::randn(0f32, 1.0, (3, 40), &Device::Cpu).unwrap();
        let layer = LayerKv::new(random([3, 40, 8]), random([3, 40, 8]), Some(bias)).unwrap();
        let queries = random([3, 7, 8]);
        for score in [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms] {
            let observe = |tile| -> Observed {
                Pass { score, with_output: true, tile }.observe(&layer, &queries).unwrap()
            };
            let whole = observe(usize::MAX);
            // Two heads at once, one head at once, three queries at once, one query at once.
            for tile in [2 * 7 * 40, 7 * 40, 3 * 40, 1] {
                let tiled = observe(tile);
                assert_close(&flat(&tiled.max), &flat(&whole.max));
                assert_close(&flat(&tiled.mass), &flat(&whole.mass));
                assert_close(&flat(&tiled.output.unwrap()), &flat(whole.output.as_ref().unwrap()));
                assert_close(&tiled.scores.concat(), &whole.scores.concat());
            }
        }
    }

    /// Of the kernels' results against the tensor operations', relative to the largest number, for caches and queries of
    /// these dtypes: sums are in another order; where all is bf16, weights are rounded for their product with the values.
    const TOLERANCES: [(DType, DType, f32); 4] = [
        (DType::F32, DType::F32, 1e-5),
        (DType::F16, DType::F16, 1e-5),
        (DType::BF16, DType::F32, 1e-5),
        (DType::BF16, DType::BF16, 4e-3),
    ];

    fn far(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let size = b.iter().fold(0f32, |size, x| size.max(x.abs()));
        a.iter().zip(b).fold(0f32, |far, (a, b)| far.max((a - b).abs())) / size
    }

    /// Sizes around the panels and tiles of the kernels, biases with padding, views with heads that lie apart.
    #[test]
    fn kernels_see_what_tensor_operations_see() {
        let mut rng = 1u64;
        let mut random = |dims: &[usize]| {
            let numbers: Vec<f32> = (0..dims.iter().product())
                .map(|_| {
                    rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (rng >> 40) as f32 / (1u64 << 23) as f32 - 1.0
                })
                .collect();
            Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap()
        };
        for (slots, n, d) in
            [(1, 1, 8), (127, 47, 16), (128, 48, 128), (300, 49, 64), (515, 130, 6), (64, 16, 7)]
        {
            for (dtype, asking, tolerance) in TOLERANCES {
                let mut narrow = |scale: f64| {
                    let whole = (random(&[2, slots + 3, d]) * scale).unwrap().to_dtype(dtype).unwrap();
                    whole.narrow(1, 2, slots).unwrap()
                };
                let (keys, values) = (narrow(3.0), narrow(1.0));
                let mut bias = random(&[2, slots]).to_vec2::<f32>().unwrap();
                if slots > 100 {
                    bias[1][..100].fill(f32::NEG_INFINITY);
                }
                let bias = Tensor::new(bias, &Device::Cpu).unwrap();
                let queries = [(random(&[2, n, d]) * 3.0).unwrap().to_dtype(asking).unwrap()];
                for bias in [None, Some(bias)] {
                    let layers = [LayerKv::new(keys.clone(), values.clone(), bias).unwrap()];
                    for score in [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms] {
                        let pass = Pass { score, with_output: true, tile: usize::MAX };
                        let want = &super::observe_plainly(&layers, &queries, pass).unwrap()[0];
                        let got = &cpu::observe_all(&layers, &queries, score, true).unwrap()[0];
                        let case =
                            format!("{dtype:?} {asking:?} {slots} slots, {n} queries, width {d}, {score:?}");
                        let tensors = [
                            ("max", &got.max, &want.max),
                            ("mass", &got.mass, &want.mass),
                            ("output", got.output.as_ref().unwrap(), want.output.as_ref().unwrap()),
                        ];
                        for (name, got, want) in tensors {
                            let far = far(&flat(got), &flat(want));
                            assert!(far <= tolerance, "{name} off by {far:e}: {case}");
                        }
                        let far = far(&got.scores.concat(), &want.scores.concat());
                        assert!(far <= tolerance, "scores off by {far:e}: {case}");
                    }
                }
            }
        }
    }
}
