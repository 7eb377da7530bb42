//! Token by token, until something says stop.

use std::time::{Duration, Instant};

use candle_core::Tensor;

use crate::sample::Sampler;
use crate::{Error, GenerateOptions, KvCache, PrefillOptions, Result, TextStream, Worker};

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// One of the model's end tokens or of the extra stop tokens came.
    Eos,
    /// `max_new_tokens` were made.
    MaxTokens,
    /// The callback said so.
    Callback,
    /// The model has no position left.
    ContextFull,
}

/// What was generated.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The tokens, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Why it ended.
    pub stopped: StopReason,
    /// Wall time for the prompt; zero when its logits were given.
    pub prefill: Duration,
    /// Wall time for the tokens.
    pub decode: Duration,
}

impl Worker {
    /// Reads `prompt` behind what `cache` holds and generates. `on_token` hears each token with the text that it
    /// completes (empty inside a character of several tokens) and stops the generation by returning false.
    ///
    /// Afterwards `cache` holds the prompt and every generated token but the last, which no later token has needed;
    /// when an end token stopped the generation, it holds all of them.
    ///
    /// # Errors
    /// Those of [`Decoder::prefill`](crate::Decoder::prefill), [`Error::Config`] for options out of range,
    /// [`Error::NonFinite`] for logits that are no numbers. The tokens read until then stay in the cache.
    pub fn generate(
        &self,
        cache: &mut KvCache,
        prompt: &[u32],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32, &str) -> bool,
    ) -> Result<Generation> {
        options.validate()?;
        let begin = Instant::now();
        let logits = self.model().prefill(prompt, cache, &PrefillOptions::default(), &mut |_, _| {})?;
        let prefill = begin.elapsed();
        Ok(Generation { prefill, ..self.generate_from_logits(cache, &logits, options, on_token)? })
    }

    /// Like [`generate`](Self::generate) for a cache whose prompt is already read, from its last token's logits
    /// (`[vocab]`, f32).
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate), [`Error::Shape`] for other logits.
    pub fn generate_from_logits(
        &self,
        cache: &mut KvCache,
        logits: &Tensor,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32, &str) -> bool,
    ) -> Result<Generation> {
        self.decode(cache, logits, options, on_token, &mut |token, cache| {
            self.model().forward(&[token], cache)
        })
    }

    /// Like [`generate`](Self::generate), and hands out the queries of the prompt and of every generated token that was
    /// read, as [`Decoder::prefill_capturing`](crate::Decoder::prefill_capturing) does for a prompt.
    ///
    /// # Shapes
    /// Per layer `[kv_heads, group_size * tokens, head_dim]`.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate).
    pub fn generate_capturing(
        &self,
        cache: &mut KvCache,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<(Generation, Vec<Tensor>)> {
        options.validate()?;
        let (model, read) = (self.model(), PrefillOptions::default());
        let begin = Instant::now();
        let captured = model.prefill_capturing(prompt, cache, &read, &mut |_, _| {})?;
        let prefill = begin.elapsed();
        let mut parts = vec![captured.queries];
        let generation =
            self.decode(cache, &captured.logits, options, &mut |_, _| true, &mut |token, cache| {
                let step = model.prefill_capturing(&[token], cache, &read, &mut |_, _| {})?;
                parts.push(step.queries);
                Ok(step.logits)
            })?;
        Ok((Generation { prefill, ..generation }, model.join_queries(&parts)?))
    }

    fn decode(
        &self,
        cache: &mut KvCache,
        logits: &Tensor,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(u32, &str) -> bool,
        step: &mut dyn FnMut(u32, &mut KvCache) -> Result<Tensor>,
    ) -> Result<Generation> {
        let begin = Instant::now();
        self.check_logits(logits)?;
        let mut decoding = Decoding::new(self, options)?;
        let mut logits = logits.clone();
        loop {
            match decoding.take(self, &logits, cache.logical_len(), on_token)? {
                Next::Read(token) => logits = step(token, cache)?,
                Next::Stop(reason) => return decoding.finish(self, reason, begin.elapsed()),
            }
        }
    }

    pub(crate) fn check_logits(&self, logits: &Tensor) -> Result<()> {
        let vocab = self.config().vocab_size;
        if logits.dims() == [vocab] {
            return Ok(());
        }
        Err(Error::Shape { arg: "logits", expected: format!("[{vocab}]"), got: logits.dims().to_vec() })
    }
}

/// What is to be done for a sequence once its next token is chosen.
pub(crate) enum Next {
    Read(u32),
    Stop(StopReason),
}

/// One sequence on its way.
pub(crate) struct Decoding<'a> {
    options: GenerateOptions,
    sampler: Sampler,
    stream: TextStream<'a>,
    tokens: Vec<u32>,
}

impl<'a> Decoding<'a> {
    pub(crate) fn new(worker: &'a Worker, options: &GenerateOptions) -> Result<Self> {
        let (stream, tokens) = (worker.tokenizer().stream(), Vec::new());
        Ok(Self { options: options.clone(), sampler: Sampler::new(options)?, stream, tokens })
    }

    /// Chooses the token that `logits` (`[vocab]`, f32) ask for behind `read` positions.
    pub(crate) fn take(
        &mut self,
        worker: &Worker,
        logits: &Tensor,
        read: usize,
        on_token: &mut dyn FnMut(u32, &str) -> bool,
    ) -> Result<Next> {
        let (tokenizer, options) = (worker.tokenizer(), &self.options);
        let token = self.sampler.sample(logits)?;
        let ends = tokenizer.eos_ids().contains(&token);
        if (ends && options.heeds_end) || options.stop_tokens.contains(&token) {
            return Ok(Next::Stop(StopReason::Eos));
        }
        self.tokens.push(token);
        let text = if ends { "" } else { self.stream.push(token) };
        Ok(if !on_token(token, text) {
            Next::Stop(StopReason::Callback)
        } else if self.tokens.len() == options.max_new_tokens {
            Next::Stop(StopReason::MaxTokens)
        } else if read == worker.config().position_limit() {
            Next::Stop(StopReason::ContextFull)
        } else {
            Next::Read(token)
        })
    }

    /// Tokens that it may make at most, at least 1.
    pub(crate) fn most(&self) -> usize {
        self.options.max_new_tokens
    }

    /// What it has made so far.
    pub(crate) fn written(&self) -> &[u32] {
        &self.tokens
    }

    pub(crate) fn finish(self, worker: &Worker, stopped: StopReason, decode: Duration) -> Result<Generation> {
        let tokenizer = worker.tokenizer();
        let text = if self.options.heeds_end {
            tokenizer.decode(&self.tokens)?
        } else {
            let said = self.tokens.iter().copied().filter(|token| !tokenizer.eos_ids().contains(token));
            tokenizer.decode(&said.collect::<Vec<_>>())?
        };
        Ok(Generation { tokens: self.tokens, text, stopped, prefill: Duration::ZERO, decode })
    }
}
