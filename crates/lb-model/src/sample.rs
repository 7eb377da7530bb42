//! From logits to a token.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax_last_dim;
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha12Rng;

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
    /// Whether the model's own end tokens end it. Where they do not, they are tokens without a text; for measuring, as a rule.
    pub heeds_end: bool,
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
            heeds_end: true,
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
}

/// A seeded sampler: the rest of a decode loop of one's own, after [`Decoder::forward`](crate::Decoder::forward).
///
/// The draws are ChaCha12's, whatever `rand` takes for its standard generator: an update of `rand` changes no answer.
#[derive(Debug, Clone)]
pub struct Sampler {
    rng: ChaCha12Rng,
    /// Above 0.
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
}

impl Sampler {
    /// A sampler at the start of its draws.
    ///
    /// # Errors
    /// Those of [`GenerateOptions::validate`].
    pub fn new(options: &GenerateOptions) -> Result<Self> {
        options.validate()?;
        let &GenerateOptions { temperature, top_k, top_p, seed, .. } = options;
        let temperature = temperature.filter(|t| *t > 0.0);
        Ok(Self { rng: ChaCha12Rng::seed_from_u64(seed), temperature, top_k, top_p })
    }

    /// The next token. `logits`: `[vocab]`, f32.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for logits that are no numbers, [`Error::Tensor`] for another shape or dtype, and where a
    /// temperature next to 0 leaves no probabilities.
    pub fn sample(&mut self, logits: &Tensor) -> Result<u32> {
        if !logits.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::NonFinite { tensor: "logits".to_string(), file: std::path::PathBuf::new() });
        }
        let Some(temperature) = self.temperature else {
            return Ok(logits.argmax(D::Minus1)?.to_scalar()?);
        };
        let mut weights: Vec<f32> = softmax_last_dim(&(logits / temperature)?)?.to_vec1()?;
        let kept = self.top_k.filter(|k| *k < weights.len()).map(|k| likeliest(&weights, k));
        if let Some(tokens) = &kept {
            weights = tokens.iter().map(|token| weights[*token]).collect();
        }
        if let Some(p) = self.nucleus(kept.as_ref().map(|_| &weights[..])) {
            cut_tail(&mut weights, p);
        }
        let index = self.draw(&weights)?;
        Ok(kept.map_or(index, |tokens| tokens[index]) as u32)
    }

    /// The probability to be reached, if not everything is to stay; `kept` is what `top_k` left, unless that is all.
    fn nucleus(&self, kept: Option<&[f32]>) -> Option<f32> {
        let p = self.top_p?;
        let all = match (self.top_k, kept) {
            (None, _) => p >= 1.0,
            (Some(_), None) => false,
            (Some(_), Some(kept)) => p as f32 >= kept.iter().sum(),
        };
        (!all).then_some(p as f32)
    }

    /// An index, as likely as its weight says.
    fn draw(&mut self, weights: &[f32]) -> Result<usize> {
        let distribution = WeightedIndex::new(weights).map_err(candle_core::Error::wrap)?;
        Ok(distribution.sample(&mut self.rng))
    }
}

/// The `k` likeliest tokens in no order; `k` is below their number.
fn likeliest(weights: &[f32], k: usize) -> Vec<usize> {
    let mut tokens: Vec<usize> = (0..weights.len()).collect();
    tokens.select_nth_unstable_by(k, |a, b| weights[*b].total_cmp(&weights[*a]));
    tokens.truncate(k);
    tokens
}

/// Zeroes all but the likeliest that together reach `p`.
fn cut_tail(weights: &mut [f32], p: f32) {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
    let mut reached = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        // The likeliest stays, however little is asked for.
        if rank > 0 && reached >= p {
            weights[index] = 0.0;
        } else {
            reached += weights[index];
        }
    }
}
