//! What the task looks at: every panel of queries of every head of every layer is a piece of work of its own.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::held::{Held, Plain};
use crate::config::ScoreAgg;
use crate::error::{AtLayer, Result};
use crate::kernel::{Numbers, Question, ROWS, Scratch, Slots, Watch, Watched, attend};
use crate::layout::LayerKv;
use crate::scores::Observed;

/// One layer's tensors.
struct Layer {
    keys: Plain,
    values: Plain,
    queries: Plain,
    bias: Option<Vec<Vec<f32>>>,
    heads: usize,
    n_queries: usize,
    head_dim: usize,
}

/// A layer held for reading.
struct Open<'a> {
    layer: &'a Layer,
    keys: Held<'a>,
    values: Held<'a>,
    queries: Held<'a>,
}

/// A panel of queries.
struct Piece {
    layer: usize,
    head: usize,
    first: usize,
}

/// [`observe_all`](crate::scores::observe_all) for tensors on the CPU.
pub(crate) fn observe_all(
    layers: &[LayerKv],
    queries: &[Tensor],
    score: ScoreAgg,
    with_output: bool,
) -> Result<Vec<Observed>> {
    let plain = layers
        .iter()
        .zip(queries)
        .enumerate()
        .map(|(index, (layer, queries))| Layer::new(layer, queries).at_layer(index))
        .collect::<Result<Vec<_>>>()?;
    let open = plain.iter().map(Layer::open).collect::<Result<Vec<_>>>()?;
    let pieces: Vec<Piece> = plain.iter().enumerate().flat_map(|(index, layer)| layer.pieces(index)).collect();
    let watch = Watch { chunks: 1, score, output: with_output };
    let watched = pieces
        .par_iter()
        .map_init(Scratch::default, |scratch, piece| open[piece.layer].watch(piece, watch, scratch))
        .collect::<Result<Vec<_>>>()?;
    let mut watched = watched.into_iter();
    plain.iter().map(|layer| layer.observed(&mut watched, watch)).collect()
}

impl Layer {
    fn new(layer: &LayerKv, queries: &Tensor) -> Result<Self> {
        let (heads, n_queries, head_dim) = queries.dims3()?;
        Ok(Self {
            keys: Plain::new(&layer.keys)?,
            values: Plain::new(&layer.values)?,
            queries: Plain::new(queries)?,
            bias: layer.bias.as_ref().map(Tensor::to_vec2).transpose()?,
            heads,
            n_queries,
            head_dim,
        })
    }

    fn open(&self) -> Result<Open<'_>> {
        let (keys, values, queries) = (self.keys.hold()?, self.values.hold()?, self.queries.hold()?);
        Ok(Open { layer: self, keys, values, queries })
    }

    fn pieces(&self, layer: usize) -> impl Iterator<Item = Piece> + use<> {
        let n_queries = self.n_queries;
        let firsts = move || (0..n_queries).step_by(ROWS);
        (0..self.heads).flat_map(move |head| firsts().map(move |first| Piece { layer, head, first }))
    }

    /// Takes as many pieces as the layer has.
    fn observed(&self, pieces: &mut impl Iterator<Item = Watched>, watch: Watch) -> Result<Observed> {
        let (heads, n, d) = (self.heads, self.n_queries, self.head_dim);
        let (mut max, mut mass, mut output) = (Vec::new(), Vec::new(), Vec::new());
        let mut scores = Vec::with_capacity(heads);
        for _ in 0..heads {
            let mut sums: Vec<f32> = Vec::new();
            for part in pieces.take(n.div_ceil(ROWS)) {
                max.extend(part.max);
                mass.extend(part.mass);
                output.extend(part.output);
                add(&mut sums, part.scores, watch.score);
            }
            finish(&mut sums, n, watch.score);
            scores.push(sums);
        }
        let column = |x: Vec<f32>| Tensor::from_vec(x, (heads, n, 1), &Device::Cpu);
        let output = watch.output.then(|| Tensor::from_vec(output, (heads, n, d), &Device::Cpu));
        Ok(Observed { max: column(max)?, mass: column(mass)?, output: output.transpose()?, scores })
    }
}

impl Open<'_> {
    fn watch(&self, piece: &Piece, watch: Watch, scratch: &mut Scratch) -> Result<Watched> {
        let d = self.layer.head_dim;
        let rows = ROWS.min(self.layer.n_queries - piece.first);
        let queries = self.queries.head(piece.head)?.range(piece.first * d, rows * d);
        // Queries in bf16 lose nothing in products in bf16.
        let round = matches!(queries, Numbers::Bf16(_));
        let mut wide = Vec::new();
        let queries = match queries {
            Numbers::F32(queries) => queries,
            narrow => {
                wide.resize(rows * d, 0.0);
                narrow.widen(&mut wide);
                &wide
            }
        };
        let bias = self.layer.bias.as_ref().map(|bias| &bias[piece.head][..]);
        let slots = Slots { keys: self.keys.head(piece.head)?, values: self.values.head(piece.head)?, bias };
        let question = Question {
            queries,
            head_dim: d,
            chunks: &[slots],
            seen: None,
            round,
            output: false,
            watch: Some(watch),
        };
        Ok(attend(&question, scratch, &mut []).unwrap_or_default())
    }
}

fn add(sums: &mut Vec<f32>, part: Vec<f32>, score: ScoreAgg) {
    if sums.is_empty() {
        *sums = part;
        return;
    }
    for (sum, part) in sums.iter_mut().zip(part) {
        *sum = if score == ScoreAgg::Max { sum.max(part) } else { *sum + part };
    }
}

/// From sums over queries to the aggregate.
fn finish(sums: &mut [f32], n: usize, score: ScoreAgg) {
    let mean = 1.0 / n as f32;
    for sum in sums {
        *sum = match score {
            ScoreAgg::Mean => *sum * mean,
            ScoreAgg::Rms => (*sum * mean).sqrt(),
            ScoreAgg::Max => *sum,
        };
    }
}
