//! The decoder.

use candle_core::{DType, Device, Tensor};
use lb_am::ScoreAgg;

use crate::attention::Heard;
use crate::buffers;
use crate::cache::Mark;
use crate::config::check;
use crate::layer::DecoderLayer;
use crate::matrix::{Linear, Matrix};
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::residual::Residual;
use crate::rope::Ropes;
use crate::vectors::Input;
use crate::weights::Weights;
use crate::{Error, KvCache, ModelConfig, Result, Warning};

/// Slots reserved behind a prefill, so that an answer does not move the whole cache to a larger buffer.
pub(crate) const HEADROOM: usize = 256;

/// A decoder of any family. It holds no cache: every call names the [`KvCache`] it reads and extends.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    embedding: Matrix,
    /// What embeddings are multiplied by, in some families.
    embedding_scale: Option<f64>,
    pub(crate) layers: Vec<DecoderLayer>,
    pub(crate) norm: RmsNorm,
    pub(crate) head: Linear,
    pub(crate) ropes: Ropes,
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
    /// Logits of the last token, `[vocab]`, or of all where that was asked for, `[tokens, vocab]`; f32.
    pub logits: Tensor,
}

/// Hears what is asked in a pass: layer, number of the sequence in the pass, queries and what they saw.
pub(crate) type Capture<'a> = Option<&'a mut (dyn FnMut(usize, usize, Heard) + Send)>;

/// A pass of fewer tokens is a matter of microseconds between its products.
const SHORT: usize = 64;

/// Which tokens' logits are wanted.
#[derive(Clone, Copy)]
pub(crate) enum Rows {
    /// Nobody's: only the caches are wanted.
    None,
    Last,
    /// Of one sequence, the token of this number.
    One(usize),
    All,
}

impl Decoder {
    /// Reads the weights, and says which tensors were left out.
    pub(crate) fn load(
        config: ModelConfig,
        mut weights: Weights,
        device: &Device,
    ) -> Result<(Self, Vec<Warning>)> {
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embedding = weights.matrix("model.embed_tokens.weight", vocab, hidden)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| DecoderLayer::load(&mut weights, index, &config))
            .collect::<Result<Vec<_>>>()?;
        let norm = RmsNorm::load(&mut weights, "model.norm", hidden, &config)?;
        let head = if config.tie_word_embeddings {
            Linear::new(embedding.clone(), None)
        } else {
            weights.linear("lm_head", hidden, vocab, false)?
        };
        let (dtype, compute) = (weights.dtype(), weights.compute());
        let warnings = weights.finish(config.tie_word_embeddings)?;
        let scaled = config.family.spec().scaled_embeddings;
        let embedding_scale =
            scaled.then(|| rounded((hidden as f64).sqrt(), embedding.dtype())).transpose()?;
        let (ropes, device) = (Ropes::new(&config, device), device.clone());
        let decoder =
            Self { config, embedding, embedding_scale, layers, norm, head, ropes, device, dtype, compute };
        Ok((decoder, warnings))
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

    /// dtype of the caches it makes.
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
        Ok(self.run_alone(tokens, cache, Rows::Last)?.squeeze(0)?)
    }

    /// Like [`forward`](Self::forward), with the logits of all tokens.
    ///
    /// # Shapes
    /// `[tokens, vocab]`, f32.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_all(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.run_alone(tokens, cache, Rows::All)
    }

    /// Like [`forward_all`](Self::forward_all), and hands out the queries of the tokens.
    ///
    /// # Shapes
    /// Logits `[tokens, vocab]`, f32; queries as of [`prefill_capturing`](Self::prefill_capturing).
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_all_capturing(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Captured> {
        self.check_input(tokens, cache)?;
        let mut queries = Vec::with_capacity(self.layers.len());
        let mut capture = |_: usize, _: usize, heard: Heard| queries.push(heard.queries);
        let logits = self.run(&[tokens], &mut [cache], Rows::All, None, Some(&mut capture))?;
        Ok(Captured { queries, logits })
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
        check(options.chunk > 0, "chunk", options.chunk, "at least 1")?;
        self.check_input(tokens, cache)?;
        let mut go_on = unbroken(progress);
        Ok(self.prefill_all(&[tokens], &mut [cache], *options, &mut go_on, Rows::Last, None)?.squeeze(0)?)
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
        check(options.chunk > 0, "chunk", options.chunk, "at least 1")?;
        self.check_input(tokens, cache)?;
        let mut captured = self.capture_all(&[tokens], &mut [cache], *options, &mut unbroken(progress))?;
        captured.pop().ok_or(Error::Empty { arg: "tokens" })
    }

    pub(crate) fn check_cache(&self, cache: &KvCache) -> Result<()> {
        cache.check_model(&self.config, &self.device)
    }

    pub(crate) fn check_ids(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.config.vocab_size;
        let wrong = tokens.iter().copied().find(|id| *id as usize >= vocab_size);
        wrong.map_or(Ok(()), |id| Err(Error::TokenRange { id, vocab_size }))
    }

    pub(crate) fn check_input(&self, tokens: &[u32], cache: &KvCache) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::Empty { arg: "tokens" });
        }
        self.check_ids(tokens)?;
        self.check_cache(cache)?;
        let (positions, limit) = (cache.logical_len() + tokens.len(), self.config.position_limit());
        if positions > limit { Err(Error::ContextOverflow { positions, limit }) } else { Ok(()) }
    }

    fn run_alone(&self, tokens: &[u32], cache: &mut KvCache, rows: Rows) -> Result<Tensor> {
        self.check_input(tokens, cache)?;
        self.run(&[tokens], &mut [cache], rows, None, None)
    }

    /// One pass over sequences whose input is checked, `[sequences or tokens, vocab]`. On an error all caches are as
    /// before.
    pub(crate) fn run(
        &self,
        tokens: &[&[u32]],
        caches: &mut [&mut KvCache],
        rows: Rows,
        watch: Option<ScoreAgg>,
        capture: Capture<'_>,
    ) -> Result<Tensor> {
        self.run_input(Input::Tokens(tokens), caches, rows, watch, capture)
    }

    /// [`run`](Self::run) over tokens or over what is read in their place.
    pub(crate) fn run_input(
        &self,
        input: Input<'_>,
        caches: &mut [&mut KvCache],
        rows: Rows,
        watch: Option<ScoreAgg>,
        capture: Capture<'_>,
    ) -> Result<Tensor> {
        let (before, lengths): (Vec<Mark>, _) =
            (caches.iter().map(|cache| cache.mark()).collect(), input.lengths()?);
        // A product that is asked for from outside the threads' pool waits to be let in, and a short pass asks for hundreds.
        let result = if self.device.is_cpu() && lengths.iter().sum::<usize>() < SHORT {
            let (lengths, caches) = (&lengths, &mut *caches);
            rayon::scope(move |_| self.run_layers(input, lengths, caches, rows, watch, capture))
        } else {
            self.run_layers(input, &lengths, caches, rows, watch, capture)
        };
        for ((cache, length), before) in caches.iter_mut().zip(lengths).zip(&before) {
            match result {
                Ok(_) => cache.advance(length),
                Err(_) => cache.roll_back(before)?,
            }
        }
        result
    }

    fn run_layers(
        &self,
        input: Input<'_>,
        lengths: &[usize],
        caches: &mut [&mut KvCache],
        rows: Rows,
        watch: Option<ScoreAgg>,
        mut capture: Capture<'_>,
    ) -> Result<Tensor> {
        let runs: Vec<(usize, usize)> =
            caches.iter().zip(lengths).map(|(cache, length)| (cache.logical_len(), *length)).collect();
        let pass = Pass { watch, ..Pass::new(&runs, &self.ropes, &self.device)? };
        let _keeper = buffers::keep();
        let mut x = Residual::new(match input {
            Input::Tokens(tokens) => self.embed(&tokens.concat())?,
            // The stream is written to.
            Input::Vectors(rows, sequences) => rows.repeat((sequences, 1))?.copy()?,
        });
        for (index, layer) in self.layers.iter().enumerate() {
            let mut own: Vec<_> = caches.iter_mut().map(|cache| cache.layer_mut(index)).collect();
            let (next, heard) = layer.forward(x, &pass, &mut own, &mut |_, _| Ok(()))?;
            x = next;
            for (number, heard) in heard.into_iter().enumerate() {
                match &mut capture {
                    Some(capture) => capture(index, number, heard),
                    None => buffers::give(heard.queries)?,
                }
            }
        }
        self.logits(&x.finish()?, &pass, rows)
    }

    /// `[tokens, hidden]`.
    pub(crate) fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let rows = self.embedding.rows(tokens, self.compute, &self.device)?;
        match self.embedding_scale {
            None => Ok(rows),
            Some(scale) => Ok((rows * scale)?),
        }
    }

    /// From the residual stream behind the last layer to `[sequences or rows, vocab]`, f32.
    pub(crate) fn logits(&self, x: &Tensor, pass: &Pass, rows: Rows) -> Result<Tensor> {
        let x = match rows {
            // The head is the largest matrix of a small model.
            Rows::None => return self.logits_of_none(),
            Rows::Last => &pass.last_rows(x)?,
            Rows::One(row) => &x.narrow(0, row, 1)?,
            Rows::All => x,
        };
        Ok(self.head.forward(&self.norm.forward(x)?)?.to_dtype(DType::F32)?)
    }

    /// `[0, vocab]`.
    pub(crate) fn logits_of_none(&self) -> Result<Tensor> {
        Ok(Tensor::zeros((0, self.config.vocab_size), DType::F32, &self.device)?)
    }
}

/// A number as it is in `dtype`.
fn rounded(number: f64, dtype: DType) -> Result<f64> {
    Ok(Tensor::new(number, &Device::Cpu)?.to_dtype(dtype)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// A listener that never stops anything.
pub(crate) fn unbroken(progress: &mut dyn FnMut(usize, usize)) -> impl FnMut(usize, usize) -> bool {
    move |done, all| {
        progress(done, all);
        true
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use crate::cache::{Chunk, Slots};
    use crate::{Error, Worker};

    fn worker() -> Worker {
        Worker::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/tiny_tied")).unwrap()
    }

    /// Gemma's embeddings are multiplied by the root of their width in their own dtype.
    #[test]
    fn scales_are_rounded_to_the_dtype_of_embeddings() {
        let root = 640f64.sqrt();
        let rounded = |dtype| super::rounded(root, dtype).unwrap();
        assert!((rounded(DType::BF16) - 25.25).abs() < 1e-12);
        assert!((rounded(DType::F16) - 25.296_875).abs() < 1e-12);
        assert!((rounded(DType::F32) - root).abs() < 1e-6);
    }

    /// What attention shares between forks, whatever each has read since.
    #[test]
    fn forks_have_the_same_first_chunk() {
        let worker = worker();
        let mut cache = worker.model().new_cache();
        worker.model().forward(&[1, 2, 3], &mut cache).unwrap();
        let mut forks = [cache.fork(), cache.fork(), cache.fork().fork()];
        worker.model().forward_batch(&[vec![4], vec![5, 6], vec![7]], &mut forks).unwrap();
        let first = |fork: &mut crate::KvCache| fork.layer_mut(1).views(1, None).unwrap().chunks.remove(0);
        let firsts = forks.each_mut().map(first);
        assert!(firsts[0].same(&firsts[1]) && firsts[0].same(&firsts[2]));
        let mut other = worker.model().new_cache();
        worker.model().forward(&[1, 2, 3], &mut other).unwrap();
        assert!(!firsts[0].same(&first(&mut other.fork())));
    }

    /// The second layer fails behind a first one that has already appended: both are as before.
    #[test]
    fn a_layer_that_fails_leaves_no_half_written_cache() {
        let worker = worker();
        let mut cache = worker.model().new_cache();
        worker.model().forward(&[1, 2, 3], &mut cache).unwrap();
        let misfit = Tensor::zeros((1, 2, 4, 10), DType::F32, &Device::Cpu).unwrap();
        let chunk = Chunk {
            kv: Slots::Plain { keys: misfit.clone(), values: misfit },
            bias: None,
            counts: None,
            places: None,
            positions: 4,
            exact: true,
        };
        cache.layer_mut(1).push(chunk);
        let before = cache.mark();
        let error = worker.model().forward(&[4, 5], &mut cache).unwrap_err();
        assert!(matches!(error, Error::Tensor(_)), "{error}");
        assert_eq!(cache.mark(), before);

        // In a batch, the other sequence is as before too, and on the first layer both had been written.
        let mut caches = [worker.model().new_cache(), cache];
        worker.model().forward(&[7, 8], &mut caches[0]).unwrap();
        let before = caches.each_ref().map(crate::KvCache::mark);
        let error = worker.model().forward_batch(&[vec![1], vec![4, 5]], &mut caches).unwrap_err();
        assert!(matches!(error, Error::Tensor(_)), "{error}");
        assert_eq!(caches.each_ref().map(crate::KvCache::mark), before);
        let options = crate::PrefillOptions { chunk: 2 };
        let tokens = [vec![1, 2, 3, 4, 5], vec![4]];
        worker.model().prefill_batch(&tokens, &mut caches, &options, &mut |_, _| {}).unwrap_err();
        assert_eq!(caches.each_ref().map(crate::KvCache::mark), before);
    }
}
