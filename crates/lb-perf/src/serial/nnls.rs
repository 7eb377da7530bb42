//! Weights of one head, within their bounds.

use candle_core::{D, Tensor};
use lb_am::{BetaMethod, NnlsStart};

use super::system::solve;
use super::wide;
use crate::Result;

/// Rounds of power iteration.
const POWER_ROUNDS: usize = 12;
/// Ridge of the least squares start, relative to the mean diagonal.
const START_LAMBDA: f64 = 1e-6;
/// Stands in for zero where a quotient of two zeros is to be 1.
const TINY: f64 = 1e-30;
/// Steps where the method gives none: those of few rows, whatever there are.
const STEPS: usize = 4;

/// w `[t, 1]` in its bounds that makes Φ w (`[n, t]`) like the mass `[n, 1]`: steps of projected gradient with momentum,
/// none of which raises the error.
pub(super) fn weights(phi: &Tensor, mass: &Tensor, method: BetaMethod) -> Result<Tensor> {
    let (_, t) = phi.dims2()?;
    let ones = Tensor::ones((t, 1), phi.dtype(), phi.device())?;
    let BetaMethod::Nnls { iterations, lower, upper, start, .. } = method else { return Ok(ones) };
    let (lower, upper) = (lower.exp(), upper.exp());
    let error = |image: &Tensor| -> Result<f32> { Ok((image - mass)?.sqr()?.sum_all()?.to_scalar()?) };
    let rows = phi.sum_keepdim(D::Minus1)?;
    let scalar = |tensor: Tensor| -> Result<f64> { Ok(f64::from(tensor.sum_all()?.to_scalar::<f32>()?)) };
    // A head without mass on any kept key gets weights of one.
    let shared = (scalar((&rows * mass)?)? + TINY) / (scalar(rows.sqr()?)? + TINY);
    let mut w = (&ones * shared.clamp(lower, upper))?;
    if start == NnlsStart::LeastSquares {
        let fitted = least_squares(phi, &(mass - &rows)?)?.clamp(lower, upper)?;
        if error(&phi.matmul(&fitted)?)? <= error(&phi.matmul(&w)?)? {
            w = fitted;
        }
    }
    let step = 1.0 / lipschitz(phi)?;
    let transposed = phi.t()?;
    let mut image = phi.matmul(&w)?;
    let mut least = error(&image)?;
    let (mut ahead, mut ahead_image, mut momentum) = (w.clone(), image.clone(), 1.0f64);
    for _ in 0..iterations.unwrap_or(STEPS) {
        let gradient = transposed.matmul(&(&ahead_image - mass)?)?;
        let next = (&ahead - (gradient * step)?)?.clamp(lower, upper)?;
        let next_image = phi.matmul(&next)?;
        let now = error(&next_image)?;
        let (best, best_image) =
            if now <= least { (next.clone(), next_image.clone()) } else { (w.clone(), image.clone()) };
        least = least.min(now);
        let grown = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
        let carry = |best: &Tensor, next: &Tensor, before: &Tensor| -> Result<Tensor> {
            let along = ((next - best)? * (momentum / grown))?;
            let past = ((best - before)? * ((momentum - 1.0) / grown))?;
            Ok(((best + along)? + past)?)
        };
        ahead = carry(&best, &next, &w)?;
        ahead_image = carry(&best_image, &next_image, &image)?;
        (w, image, momentum) = (best, best_image, grown);
    }
    Ok(w)
}

/// The w of least change from ones with Φ w = mass, given mass − Φ 1.
fn least_squares(phi: &Tensor, missing: &Tensor) -> Result<Tensor> {
    let (n, _) = phi.dims2()?;
    let mut gram = wide(&phi.matmul(&phi.t()?)?)?;
    let trace: f64 = (0..n).map(|i| gram[i * n + i]).sum();
    for i in 0..n {
        gram[i * n + i] += START_LAMBDA * trace / n as f64;
    }
    let dual = solve(&gram, n, missing)?;
    Ok((phi.t()?.matmul(&dual)? + 1.0)?)
}

/// A bound from above on the largest eigenvalue of ΦᵀΦ (Collatz and Wielandt), tight after some rounds.
fn lipschitz(phi: &Tensor) -> Result<f64> {
    let transposed = phi.t()?;
    let mut v = Tensor::ones((phi.dim(1)?, 1), phi.dtype(), phi.device())?;
    for _ in 0..POWER_ROUNDS {
        v = transposed.matmul(&phi.matmul(&v)?)?;
        v = v.broadcast_div(&v.max_keepdim(0)?)?.maximum(1e-6)?;
    }
    let image = transposed.matmul(&phi.matmul(&v)?)?;
    Ok(f64::from((image / v)?.max_keepdim(0)?.flatten_all()?.to_vec1::<f32>()?[0]))
}
