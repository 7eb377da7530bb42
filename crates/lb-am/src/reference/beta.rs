//! Key biases: the kept keys stand in for the mass of the dropped ones.

use candle_core::{DType, Device, Tensor};

use super::nnls::projected_gradient;
use crate::bounded::{Bounded, ROUNDS};
use crate::cholesky::wide;
use crate::config::{BetaMethod, RowWeighting};
use crate::error::Result;
use crate::fits::{BetaPart, BetaSums, steps_of};

/// The correction β of one layer, `[H, t]` in f32; `None` for [`BetaMethod::Zero`].
///
/// Minimises ‖Φ_kept w − Z‖² over w = exp β within the bounds (AM, arXiv 2602.16284, section 3). Φ and Z are taken at
/// one shift, and Z is the mass of the FULL cache.
///
/// # Shapes
///
/// `weights` Φ of the kept keys `[H, n, t]`, `mass` Z `[H, n, 1]`; `lens` of those that are kept in each head, or in all.
///
/// # Numerics
///
/// f32 with Φ ≤ 1 ≤ Z. A padding slot has a column of zeros: its β is finite and its stored bias stays −∞.
pub(crate) fn fit_beta(
    weights: &Tensor,
    mass: &Tensor,
    lens: &[usize],
    method: BetaMethod,
    sums: &mut BetaSums,
) -> Result<Option<Tensor>> {
    let BetaMethod::Nnls { iterations, lower, upper, start, rows } = method else { return Ok(None) };
    let bounds = (lower.exp(), upper.exp());
    let (a, y) = match rows {
        RowWeighting::Mass => (weights.clone(), mass.clone()),
        RowWeighting::Relative => (weights.broadcast_div(mass)?, mass.ones_like()?),
    };
    let (heads, rows, t) = a.dims3()?;
    let steps: Vec<Option<usize>> =
        (0..heads).map(|head| steps_of(iterations, rows, lens[head % lens.len()])).collect();
    let most = steps.iter().copied().flatten().max();
    let mut w = match most {
        Some(steps) => projected_gradient(&a, &y, bounds, steps, start)?,
        None => Tensor::ones((heads, t, 1), DType::F32, a.device())?,
    };
    if steps.contains(&None) {
        w = optima(&a, &y, bounds, &w, &steps)?;
    }
    let ones = w.ones_like()?;
    let (before, after) = ((weights.matmul(&ones)? - mass)?, (weights.matmul(&w)? - mass)?);
    let w = w.squeeze(2)?;
    let part = BetaPart {
        before: squared_norm(&before)?,
        after: squared_norm(&after)?,
        mass: squared_norm(mass)?,
        clamped: clamped(&w, &weights.sum(1)?, bounds)?,
    };
    sums.add(&part, most.unwrap_or(0));
    Ok(Some(w.log()?))
}

/// The optimum of the heads that take no steps, and of all others what they have.
fn optima(a: &Tensor, y: &Tensor, bounds: (f64, f64), w: &Tensor, steps: &[Option<usize>]) -> Result<Tensor> {
    let t = a.dim(2)?;
    let mut all = Vec::with_capacity(w.elem_count());
    for (head, steps) in steps.iter().enumerate() {
        if steps.is_some() {
            all.extend(w.get(head)?.flatten_all()?.to_vec1::<f32>()?);
            continue;
        }
        let (a, y) = (a.get(head)?, y.get(head)?);
        let at = a.t()?;
        let (gram, image) = (wide(&at.matmul(&a)?)?, wide(&at.matmul(&y)?)?);
        let bounded = Bounded { gram: &gram, image: &image, squared: squared_norm(&y)?, bounds };
        let w = bounded.solve(&vec![bounded.shared_weight(); t], ROUNDS)?;
        all.extend(w.into_iter().map(|w| w as f32));
    }
    Ok(Tensor::from_vec(all, w.dims(), &Device::Cpu)?.to_device(w.device())?)
}

/// The bias that is stored: what the cache carried plus the correction, rounded to what the cache dtype can hold
/// but kept in f32. Attention may add it in either dtype; the values are fitted against exactly this.
pub(crate) fn stored_bias(carried: &Tensor, beta: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
    let total = match beta {
        Some(beta) => (carried + beta)?,
        None => carried.clone(),
    };
    Ok(total.to_dtype(dtype)?.to_dtype(DType::F32)?)
}

/// Weights at a bound, of keys that take any mass (padding takes none).
fn clamped(w: &Tensor, mass: &Tensor, bounds: (f64, f64)) -> Result<usize> {
    // Comparing with the bounds in f32, as clamp stored them.
    let at_bound = |w: f32| w <= bounds.0 as f32 || w >= bounds.1 as f32;
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    Ok(flat(w)?.into_iter().zip(flat(mass)?).filter(|(w, mass)| *mass > 0.0 && at_bound(*w)).count())
}

fn squared_norm(tensor: &Tensor) -> Result<f64> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(|value| f64::from(value).powi(2)).sum())
}
