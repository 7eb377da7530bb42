//! What the task looks at, by tensor operations: tiles of heads and queries against all keys.

use candle_core::Tensor;

use super::softmax::{Softmax, logits, softmax};
use crate::backend::{Attended, Observing};
use crate::config::ScoreAgg;
use crate::error::Result;
use crate::layout::{LayerKv, to_f32, transposed};
use crate::observed::Observed;

/// Logits held at once, in elements: 256 MB of f32.
pub(super) const TILE: usize = 64 << 20;

/// The attention of queries in f32 over one layer, head by head, in tiles of queries.
pub(super) fn attend(layer: &LayerKv, queries: &Tensor) -> Result<Attended> {
    let (heads, n, _) = queries.dims3()?;
    let rows = (TILE / layer.seq_len()).clamp(1, n);
    let (mut outputs, mut maxima, mut masses) = (Vec::new(), Vec::new(), Vec::new());
    for head in 0..heads {
        let part = |tensor: &Tensor| -> Result<Tensor> { to_f32(&tensor.narrow(0, head, 1)?) };
        let (keys, values) = (part(&layer.keys)?, part(&layer.values)?);
        let bias = layer.bias.as_ref().map(part).transpose()?;
        let own = part(queries)?;
        let mut tiles = [const { Vec::new() }; 3];
        for from in (0..n).step_by(rows) {
            let tile = own.narrow(1, from, rows.min(n - from))?;
            let Softmax { max, weights, mass } = softmax(&logits(&tile, &keys, bias.as_ref(), layer.scale)?)?;
            let output = weights.matmul(&values)?.broadcast_div(&mass)?;
            for (tiles, tile) in tiles.iter_mut().zip([output, max, mass]) {
                tiles.push(tile);
            }
        }
        let [output, max, mass] = tiles;
        outputs.push(cat(&output, 1)?);
        maxima.push(cat(&max, 1)?);
        masses.push(cat(&mass, 1)?);
    }
    Ok(Attended { output: cat(&outputs, 0)?, max: cat(&maxima, 0)?, mass: cat(&masses, 0)? })
}

/// How a layer is observed.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) what: Observing,
    /// Logits held at once, in elements.
    pub(super) tile: usize,
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
    pub(super) fn observe(self, layer: &LayerKv, queries: &Tensor) -> Result<Observed> {
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
            score: self.what.score,
        })
    }

    /// The heads from `start`, in tiles of queries.
    fn observe_heads(self, layer: &LayerKv, queries: &Tensor, start: usize) -> Result<Tile> {
        let (heads, n, _) = queries.dims3()?;
        let part = |tensor: &Tensor| -> Result<Tensor> { to_f32(&tensor.narrow(0, start, heads)?) };
        let keys = part(&layer.keys)?;
        let values = if self.what.output { Some(part(&layer.values)?) } else { None };
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
            scores = match self.what.score {
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
        let scores = match self.what.score {
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
        Ok(match self.what.score {
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
    use candle_core::{Device, Tensor};

    use super::{Observed, Observing, Pass};
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
                Pass { what: Observing { score, output: true }, tile }.observe(&layer, &queries).unwrap()
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
}
