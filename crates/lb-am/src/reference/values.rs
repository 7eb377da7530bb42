//! Values: the kept positions absorb what the dropped ones contributed to the task's attention output.

use candle_core::{D, DType, Device, Tensor};

use crate::cholesky::{solve, wide};
use crate::config::ValuesMethod;
use crate::error::Result;
use crate::fits::{EXACT_BELOW, Pull, ValuesPart, ValuesSums, omega_of};
use crate::layout::transposed;

/// What [`ValuesMethod::RidgeLeaveOneOut`] chooses from.
const LAMBDAS: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];
/// Likewise.
const EXPONENTS: [f64; 3] = [0.0, 1.0, 2.0];
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
/// Products in f32, below a λ of 1e-3 in f64 and on the CPU; systems of size min(n, t) in f64. The dual form is used where
/// n < t.
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
    let Pull { lambda, exponent, to_original } = match (method, Pull::of(method)) {
        (ValuesMethod::RidgeLeaveOneOut, _) => {
            let best = leave_one_out(attention, &residual, importance)?;
            sums.add_left_out(best.error);
            Pull { lambda: best.lambda, exponent: best.exponent, to_original: true }
        }
        (_, Some(pull)) => pull,
        (_, None) => return Ok(None),
    };
    let weights = omega(importance, exponent, t);
    let goal = if to_original { &residual } else { target };
    let (change, jitter) = if lambda < EXACT_BELOW {
        let exact = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let (change, jitter) = System::new(&exact(attention)?, &weights)?.solve(&exact(goal)?, lambda)?;
        (change.to_dtype(DType::F32)?.to_device(target.device())?, jitter)
    } else {
        System::new(attention, &weights)?.solve(goal, lambda)?
    };
    let fitted = if to_original { (originals + change)? } else { change };
    let stored = fitted.to_dtype(kept_values.dtype())?;
    let left = (target - attention.matmul(&stored.to_dtype(DType::F32)?)?)?;
    let (before, after, output) = (squared_norm(&residual)?, squared_norm(&left)?, squared_norm(target)?);
    sums.add_layer(&[ValuesPart { before, after, output, jitter }], lambda, exponent);
    Ok(Some(stored))
}

/// The weights of each list.
fn omega(importance: &[Vec<f32>], exponent: f64, t: usize) -> Vec<Vec<f64>> {
    importance.iter().map(|list| omega_of(list, exponent, t)).collect()
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
        let inverse: Vec<f64> = omega.iter().flatten().map(|omega| 1.0 / omega).collect();
        let inverse = Tensor::from_vec(inverse, (omega.len(), 1, t), &Device::Cpu)?.to_dtype(x.dtype())?;
        let softened = x.broadcast_mul(&inverse.to_device(x.device())?)?;
        let trace = wide(&(&softened * x)?.sum((D::Minus1, D::Minus2))?)?;
        let scale = trace.iter().map(|trace| trace / n as f64).collect();
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
