//! From logits to a token.

use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling};

use crate::config::check;
use crate::{Error, Result};

/// How to generate. The default is greedy, 64 tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Tokens at most, at least 1.
    pub max_new_tokens: usize,
    /// `None` and 0 take the most likely token; above 0 is sampled, at 1 from the model's own distribution.
    pub temperature: Option<f64>,
    /// Sample from the likeliest tokens that together reach this probability, in (0, 1]. Needs a temperature.
    pub top_p: Option<f64>,
    /// Sample from this many likeliest tokens, at least 1. Needs a temperature.
    pub top_k: Option<usize>,
    /// Seed of the sampling.
    pub seed: u64,
    /// Tokens that end the generation, besides the model's own.
    pub stop_tokens: Vec<u32>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 64,
            temperature: None,
            top_p: None,
            top_k: None,
            seed: 0,
            stop_tokens: Vec::new(),
        }
    }
}

impl GenerateOptions {
    /// Greedy, at most `max_new_tokens`.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..Self::default() }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        check(self.max_new_tokens > 0, "max_new_tokens", self.max_new_tokens, "at least 1")?;
        let needs = "only with a temperature";
        if let Some(t) = self.temperature {
            check(t >= 0.0 && t.is_finite(), "temperature", t, "0 or more; 0 is greedy")?;
        }
        if let Some(p) = self.top_p {
            check(p > 0.0 && p <= 1.0, "top_p", p, "above 0, at most 1")?;
            check(self.temperature.is_some(), "top_p", p, needs)?;
        }
        if let Some(k) = self.top_k {
            check(k > 0, "top_k", k, "at least 1")?;
            check(self.temperature.is_some(), "top_k", k, needs)?;
        }
        Ok(())
    }

    fn sampling(&self) -> Sampling {
        match (self.temperature.filter(|t| *t > 0.0), self.top_k, self.top_p) {
            (None, ..) => Sampling::ArgMax,
            (Some(temperature), None, None) => Sampling::All { temperature },
            (Some(temperature), Some(k), None) => Sampling::TopK { k, temperature },
            (Some(temperature), None, Some(p)) => Sampling::TopP { p, temperature },
            (Some(temperature), Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
        }
    }
}

/// A seeded sampler.
pub(crate) struct Sampler(LogitsProcessor);

impl Sampler {
    pub(crate) fn new(options: &GenerateOptions) -> Result<Self> {
        options.validate()?;
        Ok(Self(LogitsProcessor::from_sampling(options.seed, options.sampling())))
    }

    /// `logits`: `[vocab]`, f32.
    pub(crate) fn sample(&mut self, logits: &Tensor) -> Result<u32> {
        if !logits.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::NonFinite { tensor: "logits".to_string(), file: std::path::PathBuf::new() });
        }
        Ok(self.0.sample(logits)?)
    }
}
