//! Values: the kept positions absorb what the dropped ones contributed to the task's attention output.

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::cholesky::solve;
use crate::config::ValuesMethod;
use crate::cpu::ValuesPart;
use crate::error::Result;
use crate::layout::transposed;

/// λ of [`ValuesMethod::LeastSquares`], relative like any other; just above the noise of f32 products.
pub(crate) const LEAST_SQUARES_LAMBDA: f64 = 1e-6;
/// What [`ValuesMethod::RidgeLeaveOneOut`] chooses from.
const LAMBDAS: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];
/// Likewise.
const EXPONENTS: [f64; 3] = [0.0, 1.0, 2.0];
/// Importance weights stay within this range.
const OMEGA: (f64, f64) = (1e-2, 1e2);

/// How the value fit went, over all layers that were compacted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValuesFit {
    /// ‖X V_kept − Y‖ / ‖Y‖ on the fitted queries, with the values copied and the biases fitted.
    pub output_error_before: f64,
    /// ‖X C2 − Y‖ / ‖Y‖ on the fitted queries, up to the rounding of C2 to the cache dtype. How it does on other queries is
    /// another matter.
    pub output_error_after: f64,
    /// λ relative to the mean diagonal of X Ω⁻¹ Xᵀ; where layers chose their own, the geometric mean.
    pub lambda: f64,
    /// Exponent p of the importance weights; where layers chose their own, the mean.
    pub importance: f64,
    /// ‖errors‖ / ‖Y‖ with each query left out of the fit in turn, where that was what λ and p were chosen by. Query
    /// heads of a group that read the same token are left out apart.
    pub left_out_error: Option<f64>,
    /// The largest diagonal jitter that a factorisation needed, relative to the mean diagonal; 0 as a rule.
    pub jitter: f64,
}

/// Sums over layers behind a [`ValuesFit`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValuesSums {
    layers: f64,
    before: f64,
    after: f64,
    output: f64,
    log_lambda: f64,
    importance: f64,
    left_out: Option<f64>,
    jitter: f64,
}

impl ValuesSums {
    /// Counts the heads of one layer in, all fitted with the same λ and exponent.
    pub(crate) fn add_layer(&mut self, heads: &[ValuesPart], lambda: f64, exponent: f64) {
        for part in heads {
            self.before += part.before;
            self.after += part.after;
            self.output += part.output;
            self.jitter = self.jitter.max(part.jitter);
        }
        self.layers += 1.0;
        self.log_lambda += lambda.ln();
        self.importance += exponent;
    }

    pub(crate) fn report(self) -> ValuesFit {
        let relative =
            |error: f64| if self.output > 0.0 { (error / self.output).sqrt() } else { error.sqrt() };
        let layers = self.layers.max(1.0);
        ValuesFit {
            output_error_before: relative(self.before),
            output_error_after: relative(self.after),
            lambda: (self.log_lambda / layers).exp(),
            importance: self.importance / layers,
            left_out_error: self.left_out.map(relative),
            jitter: self.jitter,
        }
    }
}

/// The fitted values of one layer in the dtype of `kept_values`; `None` for [`ValuesMethod::Copy`].
///
/// Minimises ‖X C2 − Y‖² + λ Σ_j ω_j ‖C2_j − V_j‖² (Latent Briefing; AM, arXiv 2602.16284, has the least squares).
///
/// # Shapes
///
/// `attention` X `[H, n, t]` over the kept keys with the stored biases, `target` Y `[H, n, d]` of the full cache,
/// `kept_values` `[H, t, d]`, `importance` one list for all heads or one for each, an entry per kept position; a
/// shorter list leaves the rest, which is padding, out.
///
/// # Numerics
///
/// Products in f32, systems of size min(n, t) in f64. The dual form is used where n < t.
pub(crate) fn fit_values(
    attention: &Tensor,
    target: &Tensor,
    kept_values: &Tensor,
    importance: &[Vec<f32>],
    method: ValuesMethod,
    sums: &mut ValuesSums,
) -> Result<Option<Tensor>> {
    let originals = kept_values.to_dtype(DType::F32)?;
    let residual = (target - attention.matmul(&originals)?)?;
    let t = originals.dim(1)?;
    let (lambda, exponent, to_original) = match method {
        ValuesMethod::Copy => return Ok(None),
        ValuesMethod::Ridge { lambda, importance } => (lambda, importance, true),
        ValuesMethod::RidgeLeaveOneOut => {
            let best = leave_one_out(attention, &residual, importance)?;
            sums.left_out = Some(sums.left_out.unwrap_or(0.0) + best.error);
            (best.lambda, best.exponent, true)
        }
        ValuesMethod::RidgeToZero { lambda } => (lambda, 0.0, false),
        ValuesMethod::LeastSquares => (LEAST_SQUARES_LAMBDA, 0.0, false),
    };
    let weights = omega(importance, exponent, t);
    let goal = if to_original { &residual } else { target };
    let (change, jitter) = System::new(attention, &weights)?.solve(goal, lambda)?;
    let fitted = if to_original { (originals + change)? } else { change };
    let stored = fitted.to_dtype(kept_values.dtype())?;
    sums.layers += 1.0;
    sums.before += squared_norm(&residual)?;
    sums.after += squared_norm(&(target - attention.matmul(&stored.to_dtype(DType::F32)?)?)?)?;
    sums.output += squared_norm(target)?;
    sums.log_lambda += lambda.ln();
    sums.importance += exponent;
    sums.jitter = sums.jitter.max(jitter);
    Ok(Some(stored))
}

/// ω_j = (g_j / mean g)^p over the kept positions of a list, clamped, and 1 for padding up to `t`.
fn omega(importance: &[Vec<f32>], exponent: f64, t: usize) -> Vec<Vec<f64>> {
    importance.iter().map(|list| omega_of(list, exponent, t)).collect()
}

/// The same for one list.
pub(crate) fn omega_of(importance: &[f32], exponent: f64, t: usize) -> Vec<f64> {
    let mean = importance.iter().map(|g| f64::from(*g)).sum::<f64>() / importance.len() as f64;
    let weight = |g: f32| (f64::from(g) / mean).powf(exponent).clamp(OMEGA.0, OMEGA.1);
    let mut weights: Vec<f64> =
        importance.iter().map(|g| if mean > 0.0 { weight(*g) } else { 1.0 }).collect();
    weights.resize(t, 1.0);
    weights
}

/// The D that minimises ‖X D − R‖² + λ' Σ ω_j ‖D_j‖², λ' = λ · mean diagonal of X Ω⁻¹ Xᵀ, for one Ω and any R and λ.
struct System<'a> {
    x: &'a Tensor,
    omega: &'a [Vec<f64>],
    /// X Ω⁻¹.
    softened: Tensor,
    /// X Ω⁻¹ Xᵀ where n < t, else Xᵀ X.
    gram: Tensor,
    /// Mean diagonal of X Ω⁻¹ Xᵀ per head.
    scale: Vec<f64>,
    dual: bool,
}

impl<'a> System<'a> {
    fn new(x: &'a Tensor, omega: &'a [Vec<f64>]) -> Result<Self> {
        let (_, n, t) = x.dims3()?;
        let inverse: Vec<f32> = omega.iter().flatten().map(|omega| (1.0 / omega) as f32).collect();
        let inverse = Tensor::from_vec(inverse, (omega.len(), 1, t), x.device())?;
        let softened = x.broadcast_mul(&inverse)?;
        let trace = (&softened * x)?.sum((D::Minus1, D::Minus2))?.to_vec1::<f32>()?;
        let scale = trace.iter().map(|trace| f64::from(*trace) / n as f64).collect();
        let dual = n < t;
        let gram = if dual { softened.matmul(&transposed(x)?)? } else { transposed(x)?.matmul(x)? };
        Ok(Self { x, omega, softened, gram, scale, dual })
    }

    /// D, and the jitter needed.
    fn solve(&self, r: &Tensor, lambda: f64) -> Result<(Tensor, f64)> {
        if self.dual {
            let (dual, jitter) = solve(&self.gram, r, |head, _| lambda * self.scale[head])?;
            return Ok((transposed(&self.softened)?.matmul(&dual)?, jitter));
        }
        solve(&self.gram, &transposed(self.x)?.matmul(r)?, |head, j| {
            lambda * self.scale[head] * self.omega[head % self.omega.len()][j]
        })
    }

    /// Σ ‖errors‖² with each row of X left out in turn, in closed form.
    ///
    /// In the dual the error of row i is row i of A⁻¹ R over A⁻¹_ii with A = X Ω⁻¹ Xᵀ + λI; in the primal it is the
    /// residual over 1 − h_ii with the hat matrix h = X (Xᵀ X + λΩ)⁻¹ Xᵀ.
    fn left_out(&self, r: &Tensor, lambda: f64) -> Result<f64> {
        let (heads, n, _) = self.x.dims3()?;
        let d = r.dim(2)?;
        let identity = Tensor::eye(n, DType::F32, r.device())?.broadcast_as((heads, n, n))?;
        let both = Tensor::cat(&[r, &identity.contiguous()?], 2)?;
        let (solution, _) = self.solve_raw(&both, lambda)?;
        let fitted = if self.dual { solution } else { self.x.matmul(&solution)? };
        let diagonal = (fitted.narrow(2, d, n)? * &identity)?.sum_keepdim(2)?;
        let part = fitted.narrow(2, 0, d)?;
        let errors = if self.dual {
            part.broadcast_div(&diagonal)?
        } else {
            // A row that fits itself perfectly says nothing about the others; its error counts as it is.
            (r - part)?.broadcast_div(&(1.0 - diagonal)?.maximum(1e-3)?)?
        };
        squared_norm(&errors)
    }

    /// Like [`solve`](Self::solve), but the dual solution itself where the system is dual.
    fn solve_raw(&self, r: &Tensor, lambda: f64) -> Result<(Tensor, f64)> {
        if self.dual {
            solve(&self.gram, r, |head, _| lambda * self.scale[head])
        } else {
            self.solve(r, lambda)
        }
    }
}

/// The pair that leaves the least error when each query is left out in turn.
struct Best {
    lambda: f64,
    exponent: f64,
    error: f64,
}

fn leave_one_out(x: &Tensor, residual: &Tensor, importance: &[Vec<f32>]) -> Result<Best> {
    // From the stiffest down, so that equal errors go to the smallest change.
    let mut best = Best { lambda: LAMBDAS[LAMBDAS.len() - 1], exponent: 0.0, error: f64::INFINITY };
    for exponent in EXPONENTS {
        let weights = omega(importance, exponent, x.dim(2)?);
        let system = System::new(x, &weights)?;
        for lambda in LAMBDAS.into_iter().rev() {
            let error = system.left_out(residual, lambda)?;
            if error < best.error {
                best = Best { lambda, exponent, error };
            }
        }
    }
    Ok(best)
}

fn squared_norm(tensor: &Tensor) -> Result<f64> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(|value| f64::from(value).powi(2)).sum())
}
