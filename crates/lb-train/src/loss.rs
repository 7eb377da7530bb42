//! How far logits are from what they are trained towards, with its gradient in one step.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::{Error, Result};

/// What each row of logits is trained towards.
#[derive(Clone, Copy, Debug)]
pub enum Aim<'a> {
    /// The tokens that come next: the loss is their mean negative log-likelihood.
    Tokens(&'a [u32]),
    /// The chances of all tokens, `[rows, vocab]`: the loss is the mean KL(chances ‖ softmax of the logits).
    Chances(&'a Tensor),
}

/// The mean loss of `logits` (`[rows, vocab]`, f32 or f64) in nats a row, a scalar that gradients go back from.
///
/// # Numerics
/// Rows and their sum are taken in f64.
///
/// # Errors
/// [`Error::Config`] for an aim of other rows, [`Error::Tensor`].
pub fn loss(logits: &Tensor, aim: Aim<'_>) -> Result<Tensor> {
    let (rows, vocab) = logits.dims2()?;
    let fits = match aim {
        Aim::Tokens(tokens) => tokens.len() == rows && tokens.iter().all(|id| (*id as usize) < vocab),
        Aim::Chances(chances) => chances.dims() == [rows, vocab],
    };
    if !fits || rows == 0 {
        return Err(Error::config("aim", format!("{rows} rows of logits"), "an aim for every row"));
    }
    let aim = match aim {
        Aim::Tokens(tokens) => Aimed::Tokens(tokens.to_vec()),
        Aim::Chances(chances) => {
            Aimed::Chances(chances.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
        }
    };
    Ok(logits.contiguous()?.apply_op1(Divergence { aim, vocab })?)
}

/// How many rows of `logits` have their largest number at the token that is aimed at.
///
/// # Errors
/// [`Error::Tensor`].
pub fn right(logits: &Tensor, tokens: &[u32]) -> Result<usize> {
    let best = logits.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?;
    Ok(best.iter().zip(tokens).filter(|(best, token)| best == token).count())
}

enum Aimed {
    Tokens(Vec<u32>),
    Chances(Vec<f32>),
}

struct Divergence {
    aim: Aimed,
    vocab: usize,
}

fn number_of<T: Into<f64>>(x: T) -> f64 {
    x.into()
}

/// ln Σ exp.
fn log_sum_exp(row: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = row.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + row.map(|x| (x - largest).exp()).sum::<f64>().ln()
}

impl Divergence {
    fn mean<T: Copy + Into<f64> + Sync>(&self, logits: &[T]) -> f64 {
        let rows = logits.par_chunks_exact(self.vocab).enumerate().map(|(number, row)| {
            let sum = log_sum_exp(row.iter().map(|x| number_of(*x)));
            match &self.aim {
                Aimed::Tokens(tokens) => sum - number_of(row[tokens[number] as usize]),
                Aimed::Chances(chances) => {
                    let chances = chances[number * self.vocab..][..self.vocab].iter().zip(row);
                    let part = |(chance, x): (&f32, &T)| {
                        let chance = f64::from(*chance);
                        // What has no chance adds nothing.
                        if chance > 0.0 { chance * (chance.ln() - number_of(*x) + sum) } else { 0.0 }
                    };
                    chances.map(part).sum()
                }
            }
        });
        // Collected in order first, so that the sum does not depend on the threads.
        let rows: Vec<f64> = rows.collect();
        rows.iter().sum::<f64>() / rows.len() as f64
    }

    /// softmax(logits) minus the aim, over the rows, times what comes from behind.
    fn gradient<T: Copy + Into<f64> + Sync>(&self, logits: &[T], behind: f64) -> Vec<f64> {
        let by = behind * self.vocab as f64 / logits.len() as f64;
        let mut out = vec![0.0; logits.len()];
        let rows = logits.par_chunks_exact(self.vocab).zip(out.par_chunks_exact_mut(self.vocab));
        rows.enumerate().for_each(|(number, (row, out))| {
            let sum = log_sum_exp(row.iter().map(|x| number_of(*x)));
            for (out, x) in out.iter_mut().zip(row) {
                *out = by * (number_of(*x) - sum).exp();
            }
            match &self.aim {
                Aimed::Tokens(tokens) => out[tokens[number] as usize] -= by,
                Aimed::Chances(chances) => {
                    let chances = &chances[number * self.vocab..][..self.vocab];
                    out.iter_mut().zip(chances).for_each(|(out, chance)| *out -= by * f64::from(*chance));
                }
            }
        });
        out
    }
}

impl CustomOp1 for Divergence {
    fn name(&self) -> &'static str {
        "divergence"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Some((from, to)) = layout.contiguous_offsets() else {
            candle_core::bail!("logits must be contiguous");
        };
        let mean = match logits {
            CpuStorage::F64(logits) => CpuStorage::F64(vec![self.mean(&logits[from..to])]),
            logits => CpuStorage::F32(vec![self.mean(&logits.as_slice::<f32>()?[from..to]) as f32]),
        };
        Ok((mean, Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, behind: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let flat = logits.flatten_all()?;
        let behind = behind.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let gradient = if logits.dtype() == DType::F64 {
            self.gradient(&flat.to_vec1::<f64>()?, behind)
        } else {
            self.gradient(&flat.to_vec1::<f32>()?, behind)
        };
        Tensor::from_vec(gradient, logits.shape(), logits.device())?.to_dtype(logits.dtype()).map(Some)
    }
}
