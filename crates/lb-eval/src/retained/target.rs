//! The target behind one cache.

use candle_core::Tensor;
use lb_model::{KvCache, Worker};
use lb_session::{Error as SessionError, Forced};
use rayon::prelude::*;

use crate::Result;

/// Logits in front of each token of a target, `[tokens, vocab]`.
pub(super) struct Logits {
    rows: Vec<f32>,
    vocab: usize,
}

/// How a condition's logits compare with those of the full cache, means over the target's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Compared {
    pub(super) nll: f64,
    pub(super) agreement: f64,
    pub(super) kl: f64,
}

/// Reads `target` behind `cache`, whose last token has the logits `first`.
pub(super) fn behind(worker: &Worker, first: &Tensor, cache: &mut KvCache, target: &[u32]) -> Result<Logits> {
    let model = |source: candle_core::Error| SessionError::from(lb_model::Error::from(source));
    let mut rows = first.to_vec1::<f32>().map_err(model)?;
    let vocab = rows.len();
    if let [read @ .., _] = target
        && !read.is_empty()
    {
        let logits = worker.model().forward_all(read, cache).map_err(SessionError::from)?;
        rows.extend(logits.flatten_all().and_then(|all| all.to_vec1::<f32>()).map_err(model)?);
    }
    Ok(Logits { rows, vocab })
}

/// What the worker writes greedily behind `cache`, the token that ends it counted in, at most `limit` tokens.
pub(super) fn own(worker: &Worker, first: &Tensor, cache: &mut KvCache, limit: usize) -> Result<Vec<u32>> {
    let model = |source: candle_core::Error| SessionError::from(lb_model::Error::from(source));
    let ends = worker.tokenizer().eos_ids();
    let mut tokens = Vec::with_capacity(limit);
    let mut logits = first.clone();
    loop {
        let best = argmax(&logits.to_vec1::<f32>().map_err(model)?) as u32;
        tokens.push(best);
        if tokens.len() == limit || ends.contains(&best) {
            return Ok(tokens);
        }
        logits = worker.model().forward(&[best], cache).map_err(SessionError::from)?;
    }
}

/// The first of the largest.
fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold((0, f32::MIN), |best, (at, x)| if *x > best.1 { (at, *x) } else { best }).0
}

/// ln Σ exp.
fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::MIN, f32::max);
    f64::from(max) + row.iter().map(|x| f64::from((x - max).exp())).sum::<f64>().ln()
}

impl Logits {
    /// `[tokens, vocab]`.
    pub(super) fn of(logits: &Tensor) -> Result<Self> {
        let model = |source: candle_core::Error| SessionError::from(lb_model::Error::from(source));
        let rows = logits.flatten_all().and_then(|all| all.to_vec1::<f32>()).map_err(model)?;
        let vocab = logits.dims().last().copied().unwrap_or(1);
        Ok(Self { rows, vocab })
    }

    pub(super) fn compare(&self, full: &Self, target: &[u32]) -> Compared {
        let pairs = self.rows.par_chunks(self.vocab).zip(full.rows.par_chunks(full.vocab)).zip(target);
        let each = pairs.map(|((row, full), token)| {
            let (own_sum, full_sum) = (log_sum_exp(row), log_sum_exp(full));
            let nll = own_sum - f64::from(row[*token as usize]);
            let kl = full.iter().zip(row).map(|(full, own)| {
                let ln_p = f64::from(*full) - full_sum;
                f64::from((ln_p as f32).exp()) * (ln_p - (f64::from(*own) - own_sum))
            });
            [nll, f64::from(u8::from(argmax(row) == argmax(full))), kl.sum::<f64>()]
        });
        // Collected in order first, so that sums do not depend on the threads.
        let each: Vec<[f64; 3]> = each.collect();
        let mean = |field: usize| each.iter().map(|row| row[field]).sum::<f64>() / each.len().max(1) as f64;
        Compared { nll: mean(0), agreement: mean(1), kl: mean(2).max(0.0) }
    }
}

/// Mean negative log-likelihood of `target`, nats a token, in a given answer that was read.
///
/// # Errors
/// [`Error::Session`](crate::Error::Session) where the logits are no tensor of numbers.
pub fn nll(forced: &Forced, target: &[u32]) -> Result<f64> {
    let logits = Logits::of(&forced.logits)?;
    let rows = logits.rows.chunks(logits.vocab).zip(target);
    let each: Vec<f64> =
        rows.map(|(row, token)| log_sum_exp(row) - f64::from(row[*token as usize])).collect();
    Ok(each.iter().sum::<f64>() / each.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::Logits;

    /// Two tokens of a vocabulary of three, worked out by hand.
    #[test]
    fn likelihood_agreement_and_divergence_of_two_tokens() {
        let ln = |p: [f64; 3]| p.map(|p| p.ln() as f32 + 5.0);
        let logits = |rows: [[f64; 3]; 2]| Logits { rows: rows.map(ln).concat(), vocab: 3 };
        let full = logits([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]);
        let other = logits([[0.25, 0.5, 0.25], [0.2, 0.6, 0.2]]);
        let compared = other.compare(&full, &[0, 1]);
        let nll = -(0.25f64.ln() + 0.6f64.ln()) / 2.0;
        let kl = 0.5 * 2f64.ln() + 0.25 * 0.5f64.ln() + 0.2 * 0.5f64.ln() + 0.8 * (0.8f64 / 0.6).ln();
        assert!((compared.nll - nll).abs() < 1e-6, "{compared:?}");
        assert!((compared.kl - kl / 2.0).abs() < 1e-6, "{compared:?}");
        assert!((compared.agreement - 0.5).abs() < 1e-12, "{compared:?}");
        let same = full.compare(&full, &[0, 1]);
        assert!(same.kl < 1e-7 && (same.agreement - 1.0).abs() < 1e-12, "{same:?}");
    }
}
