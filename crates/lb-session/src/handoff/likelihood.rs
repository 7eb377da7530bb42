//! How likely the worker holds a text, token by token, and how far two of its opinions are apart.

use candle_core::Tensor;
use lb_model::KvCache;
use rayon::prelude::*;

use crate::Result;
use crate::context::Reader;

/// Tokens whose logits are there at the same time.
const CHUNK: usize = 256;

/// A text, read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Self-information of each token given all in front of it, -ln p, in nats; 0 where nothing is known to be in front.
    pub(super) nats: Vec<f64>,
    /// Logits behind the last token, `[vocab]`.
    pub(super) last: Tensor,
}

/// Reads `tokens`, of which there is at least one, behind `cache`; `before` are the logits in front of the first.
///
/// The head of the model is a product for every token: beside a plain pass half as much again for small models with large vocabularies.
pub(super) fn read(
    reader: Reader<'_>,
    tokens: &[u32],
    before: Option<&Tensor>,
    cache: &mut KvCache,
) -> Result<Reading> {
    let model = reader.context.model();
    let mut nats = match (before, tokens.first()) {
        (Some(before), Some(first)) => of_rows(&rows(before)?, &[*first]),
        _ => vec![0.0],
    };
    let mut last = None;
    for (index, chunk) in tokens.chunks(CHUNK).enumerate() {
        reader.guard.check()?;
        let logits = model.forward_all(chunk, cache)?;
        let from = index * CHUNK + 1;
        let next = &tokens[from.min(tokens.len())..tokens.len().min(from + chunk.len())];
        if !next.is_empty() {
            nats.extend(of_rows(&rows(&logits.narrow(0, 0, next.len())?)?, next));
        }
        last = Some(logits.get(chunk.len() - 1)?);
    }
    let last = last.ok_or(crate::Error::Empty { arg: "text" })?;
    Ok(Reading { nats, last })
}

/// Logits, `[vocab]` or `[tokens, vocab]`, as plain numbers.
pub(super) struct Rows {
    all: Vec<f32>,
    vocab: usize,
}

pub(super) fn rows(logits: &Tensor) -> Result<Rows> {
    let vocab = logits.dims().last().copied().unwrap_or(1).max(1);
    Ok(Rows { all: logits.flatten_all()?.to_vec1()?, vocab })
}

/// -ln p of each token of `next` by the row with its number.
fn of_rows(rows: &Rows, next: &[u32]) -> Vec<f64> {
    let of = |(row, token): (&[f32], &u32)| {
        let logit = row.get(*token as usize).map_or(f64::NEG_INFINITY, |logit| f64::from(*logit));
        log_sum_exp(row) - logit
    };
    rows.all.par_chunks(rows.vocab).zip(next).map(of).collect()
}

/// KL(`full` ‖ `other`) in nats, mean over the rows.
pub(super) fn divergence(full: &Rows, other: &Rows) -> f64 {
    let of = |(full, other): (&[f32], &[f32])| {
        let (full_sum, other_sum) = (log_sum_exp(full), log_sum_exp(other));
        let term = |(full, other): (&f32, &f32)| {
            let ln_p = f64::from(*full) - full_sum;
            ln_p.exp() * (ln_p - (f64::from(*other) - other_sum))
        };
        full.iter().zip(other).map(term).sum::<f64>()
    };
    let pairs = full.all.par_chunks(full.vocab).zip(other.all.par_chunks(other.vocab));
    // Collected in order first, so that the sum does not depend on the threads.
    let each: Vec<f64> = pairs.map(of).collect();
    (each.iter().sum::<f64>() / each.len().max(1) as f64).max(0.0)
}

/// ln Σ exp.
fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::MIN, f32::max);
    f64::from(max) + row.iter().map(|x| f64::from((x - max).exp())).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::{Rows, divergence, of_rows};

    fn rows(of: &[[f64; 3]]) -> Rows {
        Rows { all: of.concat().iter().map(|p| p.ln() as f32 + 5.0).collect(), vocab: 3 }
    }

    #[test]
    fn nats_and_divergence_of_two_rows() {
        let full = rows(&[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]);
        let other = rows(&[[0.25, 0.5, 0.25], [0.2, 0.6, 0.2]]);
        let nats = of_rows(&full, &[0, 1]);
        assert!((nats[0] - 2f64.ln()).abs() < 1e-6 && (nats[1] + 0.8f64.ln()).abs() < 1e-6, "{nats:?}");
        let kl = 0.5 * 2f64.ln() + 0.25 * 0.5f64.ln() + 0.2 * 0.5f64.ln() + 0.8 * (0.8f64 / 0.6).ln();
        assert!((divergence(&full, &other) - kl / 2.0).abs() < 1e-6);
        assert!(divergence(&full, &full) < 1e-12);
        assert!(of_rows(&full, &[7, 1])[0] > f64::MAX);
    }
}
