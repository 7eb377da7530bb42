//! Values of one head, and the small solver behind them.

use candle_core::{DType, Tensor};
use lb_am::ValuesMethod;

use super::wide;
use crate::Result;

/// λ of least squares, relative to the mean diagonal.
const LEAST_SQUARES_LAMBDA: f64 = 1e-6;
/// Importance weights stay within this range.
const OMEGA: (f64, f64) = (1e-2, 1e2);
/// Added to the diagonal relative to its mean, one after another until a system can be factorised.
const JITTER: [f64; 6] = [0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4];

/// C2 `[t, d]` in f32 for attention X `[n, t]` and the full cache's output Y `[n, d]`.
pub(super) fn refit(
    x: &Tensor,
    y: &Tensor,
    values: &Tensor,
    importance: &[f32],
    method: ValuesMethod,
) -> Result<Tensor> {
    let originals = values.to_dtype(DType::F32)?;
    let (lambda, exponent, goal, origin) = match method {
        ValuesMethod::Ridge { lambda, importance } => {
            (lambda, importance, (y - x.matmul(&originals)?)?, originals)
        }
        ValuesMethod::LeastSquares => (LEAST_SQUARES_LAMBDA, 0.0, y.clone(), originals.zeros_like()?),
        _ => return Ok(originals),
    };
    let (n, t) = x.dims2()?;
    let mean = importance.iter().map(|g| f64::from(*g)).sum::<f64>() / t as f64;
    let omega = |j: usize| (f64::from(importance[j]) / mean).powf(exponent).clamp(OMEGA.0, OMEGA.1);
    let inverse: Vec<f32> = (0..t).map(|j| (1.0 / omega(j)) as f32).collect();
    let softened = x.broadcast_mul(&Tensor::from_vec(inverse, (1, t), x.device())?)?;
    let scale = lambda * f64::from((&softened * x)?.sum_all()?.to_scalar::<f32>()?) / n as f64;
    let change = if n < t {
        let mut gram = wide(&softened.matmul(&x.t()?)?)?;
        (0..n).for_each(|i| gram[i * n + i] += scale);
        softened.t()?.matmul(&solve(&gram, n, &goal)?)?
    } else {
        let mut gram = wide(&x.t()?.matmul(x)?)?;
        (0..t).for_each(|j| gram[j * t + j] += scale * omega(j));
        solve(&gram, t, &x.t()?.matmul(&goal)?)?
    };
    Ok((origin + change)?)
}

/// X of A X = B in f64 for a positive definite A of `size` rows; X like B `[size, columns]`.
pub(super) fn solve(a: &[f64], size: usize, b: &Tensor) -> Result<Tensor> {
    let columns = b.dim(1)?;
    let mut x = wide(b)?;
    let mean = (0..size).map(|i| a[i * size + i]).sum::<f64>() / size as f64;
    let mut attempts = JITTER.iter().filter_map(|jitter| factorise(a.to_vec(), size, jitter * mean));
    let Some(a) = attempts.next() else {
        return Err(lb_am::Error::Singular { size, jitter: JITTER[JITTER.len() - 1] }.into());
    };
    for k in 0..size {
        let (done, rest) = x.split_at_mut((k + 1) * columns);
        let solved = &mut done[k * columns..];
        divide(solved, a[k * size + k]);
        for (i, other) in rest.chunks_exact_mut(columns).enumerate() {
            subtract(other, solved, a[k * size + k + 1 + i]);
        }
    }
    for k in (0..size).rev() {
        let (rest, done) = x.split_at_mut((k + 1) * columns);
        let row = &mut rest[k * columns..];
        for (i, solved) in done.chunks_exact(columns).enumerate() {
            subtract(row, solved, a[k * size + k + 1 + i]);
        }
        divide(row, a[k * size + k]);
    }
    let x: Vec<f32> = x.into_iter().map(|value| value as f32).collect();
    Ok(Tensor::from_vec(x, (size, columns), b.device())?)
}

/// U with A + jitter I = Uᵀ U, row by row in the upper triangle; `None` where a pivot is not positive.
fn factorise(mut a: Vec<f64>, size: usize, jitter: f64) -> Option<Vec<f64>> {
    for k in 0..size {
        let (done, rest) = a.split_at_mut((k + 1) * size);
        let row = &mut done[k * size + k..];
        // Rows above only subtract from the diagonal, so that jitter may as well come last.
        let pivot = row[0] + jitter;
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        row[0] = pivot;
        divide(row, pivot.sqrt());
        for (i, other) in rest.chunks_exact_mut(size).enumerate() {
            let factor = row[i + 1];
            subtract(&mut other[k + 1 + i..], &row[i + 1..], factor);
        }
    }
    Some(a)
}

fn subtract(row: &mut [f64], other: &[f64], factor: f64) {
    for (a, b) in row.iter_mut().zip(other) {
        *a -= factor * b;
    }
}

fn divide(row: &mut [f64], by: f64) {
    for value in row {
        *value /= by;
    }
}
