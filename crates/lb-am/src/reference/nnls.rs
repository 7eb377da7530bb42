//! Bounded least squares by projected gradient, one system per head, all heads at once.

use candle_core::{D, Tensor};

use crate::cholesky::solve;
use crate::config::NnlsStart;
use crate::error::Result;
use crate::layout::transposed;

/// Rounds of power iteration. The matrix is non-negative, so a positive start is never orthogonal to the answer.
pub(crate) const POWER_ROUNDS: usize = 12;
/// The smallest entry of the power iterate relative to its largest, so that the bound below stays defined.
pub(crate) const FLOOR: f64 = 1e-6;
/// Ridge of the least squares start, relative to the mean diagonal of A Aᵀ: just above the noise of f32 products.
const START_LAMBDA: f64 = 1e-6;
/// Stands in for zero where a quotient of two zeros is to be 1 or finite.
pub(crate) const TINY: f64 = 1e-30;

/// Minimises ‖A w − y‖² over w ∈ [lower, upper], by default from the best weight that all columns could share.
///
/// Projected gradient with momentum that never raises the objective (MFISTA; Beck and Teboulle, 2009): each step is
/// as cheap as a plain one, and the error falls with the square of their number. No start but that of ones is worse
/// than the shared weight. A shared weight leaves attention among the kept keys as it is; from there the steps follow the
/// strong directions of A and touch the weak ones little, which matters with few queries: on ten scenes of
/// `crates/lb-testkit/src/caches.rs` (48 slots, 12 kept) the mass error on held-out queries is 0.41 after one step, 0.36 after 4,
/// 0.33 after 12 to 32 and 0.37 after 1000, and the error of the output 0.247, 0.245, 0.251 to 0.260 and 0.294.
///
/// # Shapes
///
/// `a` `[H, n, t]` with entries ≥ 0, `y` `[H, n, 1]`; returns w `[H, t, 1]`.
pub(crate) fn projected_gradient(
    a: &Tensor,
    y: &Tensor,
    bounds: (f64, f64),
    iterations: usize,
    start: NnlsStart,
) -> Result<Tensor> {
    let mut w = match start {
        NnlsStart::Shared => shared_start(a, y, bounds)?,
        NnlsStart::Ones => Tensor::ones((a.dim(0)?, a.dim(2)?, 1), a.dtype(), a.device())?,
        NnlsStart::LeastSquares => least_squares_start(a, y, bounds)?,
    };
    let at = transposed(a)?;
    let step = lipschitz(a)?.recip()?;
    let error = |image: &Tensor| -> Result<Tensor> { Ok((image - y)?.sqr()?.sum_keepdim(1)?) };
    let mut image = a.matmul(&w)?;
    let mut objective = error(&image)?;
    // The point of the next gradient, with its image: w with momentum.
    let (mut ahead, mut ahead_image) = (w.clone(), image.clone());
    let mut momentum = 1.0f64;
    for _ in 0..iterations {
        let gradient = at.matmul(&(&ahead_image - y)?)?;
        let next = (&ahead - gradient.broadcast_mul(&step)?)?.clamp(bounds.0, bounds.1)?;
        let next_image = a.matmul(&next)?;
        let next_objective = error(&next_image)?;
        // A head whose step would raise its objective stays where it is; momentum goes on from the step all the same.
        let better = next_objective.le(&objective)?;
        let best = choose(&better, &next, &w)?;
        let best_image = choose(&better, &next_image, &image)?;
        objective = choose(&better, &next_objective, &objective)?;
        let grown = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
        let (along, past) = (momentum / grown, (momentum - 1.0) / grown);
        let carry = |best: &Tensor, next: &Tensor, before: &Tensor| -> Result<Tensor> {
            Ok(((best + ((next - best)? * along)?)? + ((best - before)? * past)?)?)
        };
        ahead = carry(&best, &next, &w)?;
        ahead_image = carry(&best_image, &next_image, &image)?;
        (w, image, momentum) = (best, best_image, grown);
    }
    Ok(w)
}

/// Head by head, `a` where `which` holds and `b` elsewhere.
fn choose(which: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(which.broadcast_as(a.shape())?.where_cond(a, b)?)
}

fn shared_start(a: &Tensor, y: &Tensor, bounds: (f64, f64)) -> Result<Tensor> {
    let (heads, _, t) = a.dims3()?;
    let weight = shared_weight(a, y)?.clamp(bounds.0, bounds.1)?;
    Ok(weight.broadcast_as((heads, t, 1))?.contiguous()?)
}

/// w = 1 + Aᵀ (A Aᵀ + λI)⁻¹ (y − A 1), clamped; the shared weight in heads where clamping made that the better start.
fn least_squares_start(a: &Tensor, y: &Tensor, bounds: (f64, f64)) -> Result<Tensor> {
    let (heads, n, t) = a.dims3()?;
    let ones = Tensor::ones((heads, t, 1), a.dtype(), a.device())?;
    let at = transposed(a)?;
    let gram = a.matmul(&at)?;
    let trace = a.sqr()?.sum((D::Minus1, D::Minus2))?.to_vec1::<f32>()?;
    // A head without mass on any kept key has a Gram matrix of zeros.
    let diagonal = |head: usize, _| (START_LAMBDA * f64::from(trace[head]) / n as f64).max(TINY);
    let (dual, _) = solve(&gram, &(y - a.matmul(&ones)?)?, diagonal)?;
    let fitted = (ones + at.matmul(&dual)?)?.clamp(bounds.0, bounds.1)?;
    let shared = shared_start(a, y, bounds)?;
    let objective = |w: &Tensor| -> Result<Tensor> { Ok((a.matmul(w)? - y)?.sqr()?.sum_keepdim(1)?) };
    choose(&objective(&fitted)?.le(&objective(&shared)?)?, &fitted, &shared)
}

/// The c that minimises ‖c A 1 − y‖², `[H, 1, 1]`; 1 for a head without mass on any kept key.
fn shared_weight(a: &Tensor, y: &Tensor) -> Result<Tensor> {
    let rows = a.sum_keepdim(D::Minus1)?;
    let along = (&rows * y)?.sum_keepdim(1)?;
    let norm = rows.sqr()?.sum_keepdim(1)?;
    Ok(((along + TINY)? / (norm + TINY)?)?)
}

/// An upper bound, close from above, on the largest eigenvalue of AᵀA, `[H, 1, 1]`.
///
/// Power iteration alone approaches the eigenvalue from below, which makes the step too long. For a non-negative
/// matrix G and any positive v, max_i (G v)_i / v_i is an upper bound (Collatz and Wielandt), tight at the
/// eigenvector; so the last round of the iteration is read that way.
fn lipschitz(a: &Tensor) -> Result<Tensor> {
    let (heads, _, t) = a.dims3()?;
    let at = transposed(a)?;
    let mut v = Tensor::ones((heads, t, 1), a.dtype(), a.device())?;
    for _ in 0..POWER_ROUNDS {
        v = at.matmul(&a.matmul(&v)?)?;
        // A head without mass on any kept key has G = 0; the floor keeps 0/0 away.
        let largest = v.max_keepdim(1)?.maximum(TINY)?;
        v = v.broadcast_div(&largest)?.maximum(FLOOR)?;
    }
    let image = at.matmul(&a.matmul(&v)?)?;
    Ok((image / v)?.max_keepdim(D::Minus2)?.maximum(TINY)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{lipschitz, projected_gradient};
    use crate::config::NnlsStart;

    fn objective(a: &Tensor, y: &Tensor, w: &Tensor) -> f32 {
        let residual = (a.matmul(w).unwrap() - y).unwrap();
        residual.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn solves_a_diagonal_system_up_to_its_bounds() {
        let a = Tensor::new(&[[[1f32, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.8]]], &Device::Cpu).unwrap();
        let y = Tensor::new(&[[[2f32], [4.0], [0.0]]], &Device::Cpu).unwrap();
        let w = projected_gradient(&a, &y, (0.5, 5.0), 200, NnlsStart::Shared).unwrap();
        let w: Vec<f32> = w.flatten_all().unwrap().to_vec1().unwrap();
        for (got, want) in w.iter().zip([2.0, 5.0, 0.5]) {
            assert!((got - want).abs() < 1e-4, "{w:?}");
        }
    }

    #[test]
    fn the_step_is_safe_and_every_iteration_descends() {
        let angles = (Tensor::arange(0f32, 240.0, &Device::Cpu).unwrap() * 12.9898).unwrap();
        let a = (angles.sin().unwrap() * 3.0).unwrap().exp().unwrap().reshape((2, 6, 20)).unwrap();
        let a = a.broadcast_div(&a.max_keepdim(2).unwrap()).unwrap();
        // Rows that want much and rows that want less than the bounds allow: no shared weight fits, and the objective
        // stays far above rounding.
        let wanted = Tensor::new(&[[[5f32], [0.02], [5.0], [0.02], [5.0], [0.02]]], &Device::Cpu).unwrap();
        let y = a.sum_keepdim(2).unwrap().broadcast_mul(&wanted).unwrap();
        let bound: Vec<f32> = lipschitz(&a).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for (head, bound) in bound.iter().enumerate() {
            // The trace bounds the eigenvalue from above, the Rayleigh quotient of a row from below.
            let trace = a.get(head).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(*bound <= trace * 6.0 && *bound * 6.0 >= trace, "{bound} against a trace of {trace}");
        }
        for start in [NnlsStart::Shared, NnlsStart::Ones, NnlsStart::LeastSquares] {
            let mut last = f32::INFINITY;
            for iterations in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
                let w = projected_gradient(&a, &y, (0.05, 20.0), iterations, start).unwrap();
                let now = objective(&a, &y, &w);
                assert!(
                    now <= last * 1.000_01,
                    "{now} after {last} at {iterations} iterations from {start:?}"
                );
                last = now;
            }
        }
    }

    #[test]
    fn a_head_without_mass_stays_at_one() {
        let a = Tensor::zeros((1, 2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let y = Tensor::ones((1, 2, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        for start in [NnlsStart::Shared, NnlsStart::Ones, NnlsStart::LeastSquares] {
            let w = projected_gradient(&a, &y, (0.05, 20.0), 5, start).unwrap();
            assert_eq!(w.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0; 3]);
        }
    }
}
