//! The decoder.

use candle_core::{DType, Device, Tensor};

use crate::attention::causal_mask;
use crate::config::check;
use crate::layer::DecoderLayer;
use crate::matrix::{Linear, Matrix};
use crate::norm::RmsNorm;
use crate::rope::Rope;
use crate::weights::Weights;
use crate::{Error, KvCache, ModelConfig, Result};

/// Slots reserved behind a prefill, so that an answer does not move the whole cache to a larger buffer.
const HEADROOM: usize = 256;

/// A decoder of any family. It holds no cache: every call names the [`KvCache`] it reads and extends.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    embedding: Matrix,
    pub(crate) layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    head: Linear,
    pub(crate) rope: Rope,
    device: Device,
    dtype: DType,
    compute: DType,
}

/// How a long input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefillOptions {
    /// Tokens per forward pass, at least 1. Bounds the memory of the score matrices.
    pub chunk: usize,
}

impl Default for PrefillOptions {
    fn default() -> Self {
        Self { chunk: 512 }
    }
}

/// What a capturing prefill hands out.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Per layer `[kv_heads, group_size * tokens, head_dim]` in the model's dtype, after query norm and rotation:
    /// bit for bit what the scores were made of. Rows are ordered (head of the group, token).
    pub queries: Vec<Tensor>,
    /// Logits of the last token, `[vocab]`, f32.
    pub logits: Tensor,
}

/// Which tokens' logits are wanted.
#[derive(Clone, Copy)]
pub(crate) enum Rows {
    Last,
    All,
}

impl Decoder {
    pub(crate) fn load(config: ModelConfig, mut weights: Weights, device: &Device) -> Result<Self> {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embedding = weights.matrix("model.embed_tokens.weight", vocab, hidden)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| DecoderLayer::load(&mut weights, index, &config))
            .collect::<Result<Vec<_>>>()?;
        let norm = RmsNorm::load(&mut weights, "model.norm.weight", hidden, config.rms_norm_eps)?;
        let head = if config.tie_word_embeddings {
            Linear::new(embedding.clone(), None)
        } else {
            weights.linear("lm_head", hidden, vocab, false)?
        };
        let (dtype, compute) = (weights.dtype(), weights.compute());
        weights.finish(config.tie_word_embeddings)?;
        let rope = Rope::new(&config, device);
        Ok(Self { config, embedding, layers, norm, head, rope, device: device.clone(), dtype, compute })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// dtype of the activations, and of the queries that are handed out: f32 on the CPU and for quantised weights, else
    /// that of the weights.
    pub fn compute_dtype(&self) -> DType {
        self.compute
    }

    /// dtype of weights and of the caches it makes.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// An empty cache in the model's dtype.
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(&self.config, self.dtype, &self.device)
    }

    /// Reads `tokens` behind what `cache` holds and appends their keys and values.
    ///
    /// # Shapes
    /// Logits of the last token, `[vocab]`, f32.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TokenRange`], [`Error::ContextOverflow`], [`Error::Cache`] for another model's
    /// cache, [`Error::Tensor`]. The cache is as before then.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        Ok(self.run(tokens, cache, Rows::Last, None)?.squeeze(0)?)
    }

    /// Like [`forward`](Self::forward), with the logits of all tokens.
    ///
    /// # Shapes
    /// `[tokens, vocab]`, f32.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_all(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.run(tokens, cache, Rows::All, None)
    }

    /// Reads a long input chunk by chunk; `progress` hears tokens done and in all after each.
    ///
    /// # Shapes
    /// Logits of the last token, `[vocab]`, f32.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward), and [`Error::Config`] for a chunk of 0. The cache is as before then,
    /// however many chunks had been read.
    pub fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        options: &PrefillOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Tensor> {
        self.prefill_chunks(tokens, cache, *options, progress, &mut None)
    }

    /// Like [`prefill`](Self::prefill), and hands out the queries of `tokens`, as a compaction for them needs.
    ///
    /// # Errors
    /// Those of [`prefill`](Self::prefill).
    pub fn prefill_capturing(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        options: &PrefillOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Captured> {
        let mut parts = Some(vec![Vec::new(); self.layers.len()]);
        let logits = self.prefill_chunks(tokens, cache, *options, progress, &mut parts)?;
        let queries = parts
            .unwrap_or_default()
            .iter()
            .map(|parts| crate::queries::join(parts, self.config.group_size()))
            .collect::<Result<_>>()?;
        Ok(Captured { queries, logits })
    }

    fn prefill_chunks(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        options: PrefillOptions,
        progress: &mut dyn FnMut(usize, usize),
        captured: &mut Option<Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        check(options.chunk > 0, "chunk", options.chunk, "at least 1")?;
        self.check_input(tokens, cache)?;
        cache.reserve(tokens.len() + HEADROOM)?;
        let (start, slots) = (cache.logical_len(), cache.slot_counts());
        let mut logits = None;
        let mut done = 0;
        for chunk in tokens.chunks(options.chunk) {
            match self.run(chunk, cache, Rows::Last, captured.as_mut()) {
                Ok(rows) => logits = Some(rows),
                Err(error) => {
                    cache.roll_back(&slots, start)?;
                    return Err(error);
                }
            }
            done += chunk.len();
            progress(done, tokens.len());
        }
        Ok(logits.ok_or(Error::Empty { arg: "tokens" })?.squeeze(0)?)
    }

    pub(crate) fn check_input(&self, tokens: &[u32], cache: &KvCache) -> Result<()> {
        let (vocab_size, limit) = (self.config.vocab_size, self.config.position_limit());
        if tokens.is_empty() {
            return Err(Error::Empty { arg: "tokens" });
        }
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenRange { id, vocab_size });
        }
        cache.check_model(&self.config, &self.device)?;
        let positions = cache.logical_len() + tokens.len();
        if positions > limit { Err(Error::ContextOverflow { positions, limit }) } else { Ok(()) }
    }

    fn run(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        rows: Rows,
        captured: Option<&mut Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        self.check_input(tokens, cache)?;
        let (start, slots) = (cache.logical_len(), cache.slot_counts());
        let result = self.run_layers(tokens, cache, rows, captured);
        match result {
            Ok(_) => cache.advance(tokens.len()),
            Err(_) => cache.roll_back(&slots, start)?,
        }
        result
    }

    fn run_layers(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        rows: Rows,
        mut captured: Option<&mut Vec<Vec<Tensor>>>,
    ) -> Result<Tensor> {
        let rotation = self.rope.at(cache.logical_len(), tokens.len())?;
        let mask = causal_mask(tokens.len(), &self.device)?;
        let mut x = self.embed(tokens)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let (next, queries) =
                layer.forward(&x, &rotation, mask.as_ref(), cache.layer_mut(index), &mut |_, _| Ok(()))?;
            x = next;
            if let Some(parts) = captured.as_mut() {
                parts[index].push(queries);
            }
        }
        self.logits(x, rows)
    }

    /// `[tokens, hidden]`.
    pub(crate) fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.embedding.rows(tokens, self.compute, &self.device)
    }

    /// From the residual stream behind the last layer to `[tokens or 1, vocab]`, f32.
    pub(crate) fn logits(&self, x: Tensor, rows: Rows) -> Result<Tensor> {
        let x = match rows {
            Rows::Last => x.narrow(0, x.dim(0)? - 1, 1)?,
            Rows::All => x,
        };
        Ok(self.head.forward(&self.norm.forward(&x)?)?.to_dtype(DType::F32)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use crate::cache::Chunk;
    use crate::{Error, Worker};

    fn worker() -> Worker {
        Worker::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/tiny_tied")).unwrap()
    }

    /// The second layer fails behind a first one that has already appended: both are as before.
    #[test]
    fn a_layer_that_fails_leaves_no_half_written_cache() {
        let worker = worker();
        let mut cache = worker.model().new_cache();
        worker.model().forward(&[1, 2, 3], &mut cache).unwrap();
        let misfit = Tensor::zeros((1, 2, 4, 10), DType::F32, &Device::Cpu).unwrap();
        let chunk = Chunk {
            keys: misfit.clone(),
            values: misfit,
            bias: None,
            counts: None,
            positions: 4,
            exact: true,
        };
        cache.layer_mut(1).push(chunk);
        let before = cache.slot_counts();
        let error = worker.model().forward(&[4, 5], &mut cache).unwrap_err();
        assert!(matches!(error, Error::Tensor(_)), "{error}");
        assert_eq!((cache.slot_counts(), cache.logical_len()), (before, 3));
    }
}
