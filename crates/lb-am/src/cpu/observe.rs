//! What the task looks at: every block of queries of every head of every layer is a piece of work of its own.

use candle_core::{Device, Tensor};
use lb_kernels::{
    AttentionInput, CpuTensors, FloatSlice, KvSlice, Observation, Observe, QUERY_BLOCK, Scratch,
    attend as attend_block, contiguous_heads,
};
use rayon::prelude::*;

use crate::backend::{Attended, Observing};
use crate::error::{AtLayer, Result};
use crate::layout::LayerKv;
use crate::observed::Observed;

/// One layer's tensors.
struct Layer {
    keys: Tensor,
    values: Tensor,
    queries: Tensor,
    bias: Option<Vec<Vec<f32>>>,
    heads: usize,
    n_queries: usize,
    head_dim: usize,
    scale: f32,
}

/// A layer held for reading.
struct Open<'a> {
    layer: &'a Layer,
    /// Keys, values, queries.
    held: CpuTensors<'a>,
}

/// A block of queries.
struct Piece {
    layer: usize,
    head: usize,
    first: usize,
}

/// What the queries of every layer see.
pub(super) fn observe(layers: &[LayerKv], queries: &[Tensor], what: Observing) -> Result<Vec<Observed>> {
    let note = Observe { chunks: 1, score: Some(what.score.of_queries()), output: what.output };
    let noted = attend_all(layers, queries, note)?;
    let of_layer = |(parts, queries): (Vec<Observation>, &Tensor)| {
        Observed::from_observations(parts, queries.dims3()?, what.score)
    };
    noted.into_iter().zip(queries).map(of_layer).collect()
}

/// The attention of queries in f32 over one layer.
pub(super) fn attend(layer: &LayerKv, queries: &Tensor) -> Result<Attended> {
    let note = Observe { chunks: 1, score: None, output: true };
    let (layers, queries) = (std::slice::from_ref(layer), std::slice::from_ref(queries));
    let (heads, n, d) = queries[0].dims3()?;
    let (mut output, mut max, mut mass) = (Vec::with_capacity(heads * n * d), Vec::new(), Vec::new());
    for part in attend_all(layers, queries, note)?.remove(0) {
        output.extend(part.output);
        max.extend(part.max);
        mass.extend(part.mass);
    }
    let column = |x: Vec<f32>| Tensor::from_vec(x, (heads, n, 1), &Device::Cpu);
    let output = Tensor::from_vec(output, (heads, n, d), &Device::Cpu)?;
    Ok(Attended { output, max: column(max)?, mass: column(mass)? })
}

/// What is noted of every block of queries, by layer; heads one after another, each head's blocks in order.
fn attend_all(layers: &[LayerKv], queries: &[Tensor], note: Observe) -> Result<Vec<Vec<Observation>>> {
    let plain = layers
        .iter()
        .zip(queries)
        .enumerate()
        .map(|(index, (layer, queries))| Layer::new(layer, queries).at_layer(index))
        .collect::<Result<Vec<_>>>()?;
    let open = plain.iter().map(Layer::open).collect::<Result<Vec<_>>>()?;
    let pieces: Vec<Piece> =
        plain.iter().enumerate().flat_map(|(index, layer)| layer.pieces(index)).collect();
    let noted = pieces
        .par_iter()
        .map_init(Scratch::default, |scratch, piece| open[piece.layer].observe(piece, note, scratch))
        .collect::<Result<Vec<_>>>()?;
    let mut noted = noted.into_iter();
    let of_layer =
        |layer: &Layer| noted.by_ref().take(layer.heads * layer.n_queries.div_ceil(QUERY_BLOCK)).collect();
    Ok(plain.iter().map(of_layer).collect())
}

impl Layer {
    fn new(layer: &LayerKv, queries: &Tensor) -> Result<Self> {
        let (heads, n_queries, head_dim) = queries.dims3()?;
        Ok(Self {
            keys: contiguous_heads(&layer.keys)?,
            values: contiguous_heads(&layer.values)?,
            queries: contiguous_heads(queries)?,
            bias: layer.bias.as_ref().map(Tensor::to_vec2).transpose()?,
            heads,
            n_queries,
            head_dim,
            scale: layer.scale,
        })
    }

    fn open(&self) -> Result<Open<'_>> {
        Ok(Open { layer: self, held: CpuTensors::new(&[&self.keys, &self.values, &self.queries])? })
    }

    fn pieces(&self, layer: usize) -> impl Iterator<Item = Piece> + use<> {
        let n_queries = self.n_queries;
        let firsts = move || (0..n_queries).step_by(QUERY_BLOCK);
        (0..self.heads).flat_map(move |head| firsts().map(move |first| Piece { layer, head, first }))
    }
}

impl Open<'_> {
    fn observe(&self, piece: &Piece, note: Observe, scratch: &mut Scratch) -> Result<Observation> {
        let d = self.layer.head_dim;
        let rows = QUERY_BLOCK.min(self.layer.n_queries - piece.first);
        let queries = self.held.head(2, piece.head)?.range(piece.first * d, rows * d);
        // Queries in bf16 lose nothing in products in bf16.
        let allow_bf16 = matches!(queries, FloatSlice::Bf16(_));
        let mut wide = Vec::new();
        let queries = match queries {
            FloatSlice::F32(queries) => queries,
            narrow => {
                wide.resize(rows * d, 0.0);
                narrow.to_f32(&mut wide);
                &wide
            }
        };
        let bias = self.layer.bias.as_ref().map(|bias| &bias[piece.head][..]);
        let rows = |index: usize| Ok::<_, lb_kernels::Error>(self.held.head(index, piece.head)?.into());
        let slots = KvSlice { keys: rows(0)?, values: rows(1)?, bias };
        let input = AttentionInput {
            queries,
            head_dim: d,
            chunks: &[slots],
            scale: self.layer.scale,
            hidden: None,
            visible: None,
            allow_bf16,
            output: false,
            observe: Some(note),
        };
        Ok(attend_block(&input, scratch, &mut []).unwrap_or_default())
    }
}
