//! The decoder once more, of steps that have gradients: what vectors, values and biases are trained through.
//!
//! [`Decoder`] is built for speed: its products, norms and attention have no gradients. [`Differentiable`] is a copy of its weights in
//! one dtype, and one pass of plain tensor operations over one sequence, from rows of the input to logits. The weights stay as they
//! are: no gradient of theirs is ever computed, which would be most of the work and the memory. Gradients reach what the caller made
//! of variables: the rows that are read, and the values and biases of what lies before them.
//!
//! ```text
//! rows [tokens, hidden] ──> layers: attention over Past and the rows themselves, MLP ──> norm, head ──> logits [tokens, vocab]
//!                                         ^
//!                     keys (fixed), values and biases (may be trained) of positions read before
//! ```

mod block;
mod linear;
mod steps;

use candle_core::{DType, Tensor};
use lb_am::LayerKv;

use block::Block;
use linear::Frozen;
use steps::{causal, normed};

use crate::mlp::FeedForward;
use crate::{Decoder, Error, ModelConfig, Result};

/// A decoder's weights as tensors of one dtype, and a pass over them that has gradients.
#[derive(Debug)]
pub struct Differentiable<'a> {
    decoder: &'a Decoder,
    dtype: DType,
    blocks: Vec<Block>,
    /// The gain of the last norm.
    norm: Tensor,
    head: Frozen,
}

/// What was read before the rows of a pass: layer by layer keys, values and biases.
#[derive(Clone, Debug)]
pub struct Past {
    /// As [`KvCache::layers`](crate::KvCache::layers) hands them out. Values and biases may be variables; of keys no gradient is
    /// computed.
    pub layers: Vec<LayerKv>,
    /// The position of the next row, however many slots there are.
    pub positions: usize,
}

impl<'a> Differentiable<'a> {
    /// A copy of the weights of `decoder` in `dtype`: f32 to train, f64 to check gradients. Packed weights are unpacked.
    ///
    /// # Errors
    /// [`Error::Config`] for another dtype, and for what has no such path: mixtures of experts, layers with a window;
    /// [`Error::Tensor`].
    pub fn of(decoder: &'a Decoder, dtype: DType) -> Result<Self> {
        let config = decoder.config();
        let refused = |field, value: String, reason: &str| {
            Err(Error::Config { field, value, reason: reason.to_owned() })
        };
        if !matches!(dtype, DType::F32 | DType::F64) {
            return refused("dtype", format!("{dtype:?}"), "gradients are computed in f32 and f64");
        }
        if config.local.is_some() {
            let reason = "layers with a window have no path with gradients";
            return refused("family", format!("{:?}", config.family), reason);
        }
        let mixture = |layer: &crate::layer::DecoderLayer| matches!(layer.mlp, FeedForward::Mixture(_));
        if decoder.layers.iter().any(mixture) {
            let reason = "mixtures of experts have no path with gradients";
            return refused("family", format!("{:?}", config.family), reason);
        }
        let blocks = decoder.layers.iter().map(|layer| Block::of(layer, config, dtype));
        Ok(Self {
            decoder,
            dtype,
            blocks: blocks.collect::<Result<_>>()?,
            norm: decoder.norm.gain.to_dtype(dtype)?,
            head: Frozen::of(&decoder.head, dtype)?,
        })
    }

    /// Of all that is computed.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// The embeddings of tokens as the first layer reads them, without gradients.
    ///
    /// # Shapes
    /// `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`Error::TokenRange`], [`Error::Tensor`].
    pub fn embeddings(&self, tokens: &[u32]) -> Result<Tensor> {
        Ok(self.decoder.embeddings(tokens)?.to_dtype(self.dtype)?)
    }

    /// Reads `rows` behind `past`, and hands out the logits of the last `wanted` of them.
    ///
    /// # Shapes
    /// `rows` is `[tokens, hidden]`, the logits `[wanted, vocab]`, both in [`dtype`](Self::dtype).
    ///
    /// # Numerics
    /// In f32 within rounding of what [`Decoder::forward_all`] gives for the same weights: sums are taken in another order.
    ///
    /// # Errors
    /// [`Error::Shape`] for rows of another width, for no row, more wanted than there are and another number of layers;
    /// [`Error::ContextOverflow`], [`Error::Tensor`].
    pub fn logits(&self, rows: &Tensor, past: Option<&Past>, wanted: usize) -> Result<Tensor> {
        let (config, before) = (self.config(), past.map_or(0, |past| past.positions));
        let tokens = match rows.dims() {
            [tokens, width] if *width == config.hidden_size && (1..=*tokens).contains(&wanted) => *tokens,
            got => {
                let expected = format!("[{} or more, {}]", wanted.max(1), config.hidden_size);
                return Err(Error::Shape { arg: "rows", expected, got: got.to_vec() });
            }
        };
        if let Some(past) = past.filter(|past| past.layers.len() != self.blocks.len()) {
            let expected = format!("{} layers", self.blocks.len());
            return Err(Error::Shape { arg: "past", expected, got: vec![past.layers.len()] });
        }
        let (positions, limit) = (before + tokens, config.position_limit());
        if positions > limit {
            return Err(Error::ContextOverflow { positions, limit });
        }
        let rotation = self.decoder.ropes.of(None).at(before, tokens)?.to_dtype(self.dtype)?;
        let mask = causal(tokens, self.dtype, rows.device())?;
        let mut x = rows.clone();
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &rotation, &mask, past.map(|past| &past.layers[index]))?;
        }
        let last = x.narrow(0, tokens - wanted, wanted)?;
        self.head.forward(&normed(&last, &self.norm, config.rms_norm_eps)?)
    }
}
