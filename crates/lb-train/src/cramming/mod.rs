//! A text in a few vectors that a frozen worker reads in the place of tokens, and writes the text behind (Kuratov and others, 2025,
//! *Cramming 1568 Tokens into a Single Vector and Back Again*, arXiv 2502.13063).
//!
//! The vectors are the only thing that is trained: AdamW on the mean negative log-likelihood of the text, read behind them with teacher
//! forcing, until every token of it is the likeliest one.

mod crammed;
mod read;

use candle_core::{DType, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use lb_model::{Differentiable, InputVectors, Worker};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

pub use crammed::CrammedText;

use crate::loss::{Aim, loss, right};
use crate::{Error, Result};

/// Vectors at most; as many as their file may hold.
const MOST: usize = 256;

/// How a text is crammed.
#[derive(Clone, Debug, PartialEq)]
pub struct Cramming {
    /// Vectors, 1 to 256.
    pub vectors: usize,
    /// Steps at most, 1 to 1,000,000. Training ends before, once the text is reproduced.
    pub steps: usize,
    /// Above 0, at most 1. The paper's 0.01.
    pub learning_rate: f64,
    /// Of the first vectors, which are drawn at random with the size of the worker's embeddings.
    pub seed: u64,
}

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CramStep {
    /// Steps that were taken before this figure, from 0.
    pub step: usize,
    /// Mean negative log-likelihood of the text behind the vectors, nats a token.
    pub loss: f64,
    /// Tokens that are the likeliest, with teacher forcing.
    pub right: usize,
    /// Tokens of the text.
    pub tokens: usize,
}

/// A training that came to its end.
#[derive(Clone, Debug)]
pub struct Crammed {
    /// The text in its vectors.
    pub text: CrammedText,
    /// The step whose vectors these are.
    pub best: CramStep,
    /// Steps that were taken.
    pub steps: usize,
}

impl Default for Cramming {
    fn default() -> Self {
        Self { vectors: 1, steps: 5000, learning_rate: 0.01, seed: 0 }
    }
}

impl Cramming {
    /// So many vectors, everything else as by default.
    pub fn vectors(vectors: usize) -> Self {
        Self { vectors, ..Self::default() }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let Self { vectors, steps, learning_rate, .. } = *self;
        if !(1..=MOST).contains(&vectors) {
            return Err(Error::config("vectors", vectors, "want 1 to 256"));
        }
        if !(1..=1_000_000).contains(&steps) {
            return Err(Error::config("steps", steps, "want 1 to 1,000,000"));
        }
        if !(learning_rate > 0.0 && learning_rate <= 1.0) {
            return Err(Error::config("learning_rate", learning_rate, "want above 0, at most 1"));
        }
        Ok(())
    }

    /// Crams `text`. `on_step` hears every step; false ends the training with what there is.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Empty`], [`Error::OtherText`] for a text that the worker's tokens do not give back,
    /// [`Error::Diverged`], [`Error::Model`] for a text that is too long or a worker without gradients.
    pub fn run(
        &self,
        worker: &Worker,
        text: &str,
        on_step: &mut dyn FnMut(CramStep) -> bool,
    ) -> Result<Crammed> {
        let tokens = worker.tokenizer().encode_text(text)?;
        let again = worker.tokenizer().decode(&tokens)?;
        if again != text {
            let same = again.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
            return Err(Error::OtherText { byte: same });
        }
        self.run_tokens(worker, &Differentiable::of(worker.model(), DType::F32)?, &tokens, on_step)
    }

    /// Crams tokens by a path that was made before; see [`run`](Self::run).
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_tokens(
        &self,
        worker: &Worker,
        path: &Differentiable<'_>,
        tokens: &[u32],
        on_step: &mut dyn FnMut(CramStep) -> bool,
    ) -> Result<Crammed> {
        self.validate()?;
        if tokens.is_empty() {
            return Err(Error::Empty { arg: "text" });
        }
        let vectors = Var::from_tensor(&self.first(path)?)?;
        let params = ParamsAdamW {
            lr: self.learning_rate,
            beta1: 0.9,
            beta2: 0.9,
            weight_decay: 0.01,
            ..ParamsAdamW::default()
        };
        let mut optimizer = AdamW::new(vec![vectors.clone()], params)?;
        let given = path.embeddings(tokens)?.narrow(0, 0, tokens.len() - 1)?;
        let mut best: Option<(CramStep, Tensor)> = None;
        let mut step = 0;
        loop {
            let rows = Tensor::cat(&[vectors.as_tensor(), &given], 0)?;
            let logits = path.logits(&rows, None, tokens.len())?;
            let mean = loss(&logits, Aim::Tokens(tokens))?;
            let loss = mean.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            if !loss.is_finite() {
                return Err(Error::Diverged { step });
            }
            let now = CramStep { step, loss, right: right(&logits, tokens)?, tokens: tokens.len() };
            let better = |best: &CramStep| (now.right, -now.loss) > (best.right, -best.loss);
            if best.as_ref().is_none_or(|(best, _)| better(best)) {
                best = Some((now, vectors.as_tensor().copy()?.detach()));
            }
            let go_on = on_step(now);
            let done =
                now.right == tokens.len() && Self::text(worker, vectors.as_tensor(), tokens)?.is_exact();
            if done || !go_on || step == self.steps {
                break;
            }
            optimizer.step(&mean.backward()?)?;
            step += 1;
        }
        let (best, rows) = best.ok_or(Error::Empty { arg: "steps" })?;
        Ok(Crammed { text: Self::text(worker, &rows, tokens)?, best, steps: step })
    }

    fn text(worker: &Worker, rows: &Tensor, tokens: &[u32]) -> Result<CrammedText> {
        let mut vectors = InputVectors::new(rows.copy()?.detach());
        worker.name().clone_into(&mut vectors.model);
        vectors.trained_on = format!("a text of {} tokens", tokens.len());
        CrammedText::of(worker, vectors, tokens)
    }

    /// Normal numbers of the deviation that the worker's embeddings have.
    fn first(&self, path: &Differentiable<'_>) -> Result<Tensor> {
        let (vocab, hidden) = (path.config().vocab_size, path.config().hidden_size);
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        let some: Vec<u32> = (0..256).map(|_| rng.random_range(0..vocab as u32)).collect();
        let some = path.embeddings(&some)?;
        let size = some.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?;
        let mut normal = || {
            // Box and Muller; 1 - u is never 0.
            let (u, v): (f32, f32) = (rng.random(), rng.random());
            size * (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
        };
        let numbers: Vec<f32> = (0..self.vectors * hidden).map(|_| normal()).collect();
        Ok(Tensor::from_vec(numbers, (self.vectors, hidden), some.device())?)
    }
}
