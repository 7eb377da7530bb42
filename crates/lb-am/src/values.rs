//! Values: the kept positions absorb what the dropped ones contributed to the task's attention output.

use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::cholesky::Systems;
use crate::config::ValuesMethod;
use crate::error::Result;
use crate::layout::transposed;

/// λ of [`ValuesMethod::LeastSquares`], relative like any other; just above the noise of f32 products.
const LEAST_SQUARES_LAMBDA: f64 = 1e-6;
/// Importance weights stay within this range.
const OMEGA: (f64, f64) = (1e-2, 1e2);

/// How the value fit went, over all layers that were compacted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValuesFit {
    /// ‖X V_kept − Y‖ / ‖Y‖ on the fitted queries, with the values copied and the biases fitted.
    pub output_error_before: f64,
    /// ‖X C2 − Y‖ / ‖Y‖ on the fitted queries, with C2 as stored. How it does on other queries is another matter.
    pub output_error_after: f64,
    /// λ relative to the mean diagonal of X Ω⁻¹ Xᵀ.
    pub lambda: f64,
    /// The largest diagonal jitter that a factorisation needed, relative to the mean diagonal; 0 as a rule.
    pub jitter: f64,
}

/// Sums over layers behind a [`ValuesFit`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValuesSums {
    before: f64,
    after: f64,
    output: f64,
    lambda: f64,
    jitter: f64,
}

impl ValuesSums {
    pub(crate) fn report(self) -> ValuesFit {
        let relative =
            |error: f64| if self.output > 0.0 { (error / self.output).sqrt() } else { error.sqrt() };
        ValuesFit {
            output_error_before: relative(self.before),
            output_error_after: relative(self.after),
            lambda: self.lambda,
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
/// `kept_values` `[H, t, d]`, `importance` one ω per kept position.
///
/// # Numerics
///
/// Products in f32, systems of size min(n, t) in f64. The dual form is used where n < t.
pub(crate) fn fit_values(
    attention: &Tensor,
    target: &Tensor,
    kept_values: &Tensor,
    importance: &[f32],
    method: ValuesMethod,
    sums: &mut ValuesSums,
) -> Result<Option<Tensor>> {
    let originals = kept_values.to_dtype(DType::F32)?;
    let residual = (target - attention.matmul(&originals)?)?;
    let (lambda, exponent, goal, prior) = match method {
        ValuesMethod::Copy => return Ok(None),
        ValuesMethod::Ridge { lambda, importance } => (lambda, importance, &residual, Some(&originals)),
        ValuesMethod::LeastSquares => (LEAST_SQUARES_LAMBDA, 0.0, target, None),
    };
    let weights = omega(importance, exponent);
    let (change, jitter) = ridge(attention, goal, &weights, lambda)?;
    let fitted = match prior {
        Some(prior) => (prior + change)?,
        None => change,
    };
    let stored = fitted.to_dtype(kept_values.dtype())?;
    sums.before += squared_norm(&residual)?;
    sums.after += squared_norm(&(target - attention.matmul(&stored.to_dtype(DType::F32)?)?)?)?;
    sums.output += squared_norm(target)?;
    sums.lambda = lambda;
    sums.jitter = sums.jitter.max(jitter);
    Ok(Some(stored))
}

/// ω_j = (g_j / mean g)^p over the kept positions, clamped.
fn omega(importance: &[f32], exponent: f64) -> Vec<f64> {
    let mean = importance.iter().map(|g| f64::from(*g)).sum::<f64>() / importance.len() as f64;
    if mean <= 0.0 {
        return vec![1.0; importance.len()];
    }
    importance.iter().map(|g| (f64::from(*g) / mean).powf(exponent).clamp(OMEGA.0, OMEGA.1)).collect()
}

/// The D that minimises ‖X D − R‖² + λ' Σ ω_j ‖D_j‖², λ' = λ · mean diagonal of X Ω⁻¹ Xᵀ; and the jitter needed.
fn ridge(x: &Tensor, r: &Tensor, omega: &[f64], lambda: f64) -> Result<(Tensor, f64)> {
    let (_, n, t) = x.dims3()?;
    let inverse: Vec<f32> = omega.iter().map(|omega| (1.0 / omega) as f32).collect();
    let softened = x.broadcast_mul(&Tensor::new(inverse, x.device())?)?;
    // The diagonal of X Ω⁻¹ Xᵀ, one sum per head.
    let trace = (&softened * x)?.sum((D::Minus1, D::Minus2))?.to_vec1::<f32>()?;
    let strength: Vec<f64> = trace.iter().map(|trace| lambda * f64::from(*trace) / n as f64).collect();
    if n < t {
        let gram = softened.matmul(&transposed(x)?)?;
        let (dual, jitter) = solve(&gram, r, |head, _| strength[head])?;
        Ok((transposed(&softened)?.matmul(&dual)?, jitter))
    } else {
        let xt = transposed(x)?;
        solve(&xt.matmul(x)?, &xt.matmul(r)?, |head, j| strength[head] * omega[j])
    }
}

/// Solves (A + diag) X = B per head on the CPU in f64; `diagonal(head, row)` is added to A.
fn solve(a: &Tensor, b: &Tensor, diagonal: impl Fn(usize, usize) -> f64) -> Result<(Tensor, f64)> {
    let (heads, size, columns) = b.dims3()?;
    let wide = |tensor: &Tensor| -> Result<Vec<f64>> {
        let values = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.into_iter().map(f64::from).collect())
    };
    let mut systems = Systems { size, columns, matrices: wide(a)?, right: wide(b)? };
    for head in 0..heads {
        for row in 0..size {
            systems.matrices[(head * size + row) * size + row] += diagonal(head, row);
        }
    }
    let jitter = systems.solve()?;
    let solution: Vec<f32> = systems.right.iter().map(|value| *value as f32).collect();
    Ok((Tensor::from_vec(solution, (heads, size, columns), b.device())?, jitter))
}

fn squared_norm(tensor: &Tensor) -> Result<f64> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(|value| f64::from(value).powi(2)).sum())
}
