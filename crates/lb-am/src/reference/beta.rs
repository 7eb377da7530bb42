//! Key biases: the kept keys stand in for the mass of the dropped ones.

use candle_core::{DType, Device, Tensor};

use super::nnls::projected_gradient;
use crate::bounded::{Bounded, ROUNDS};
use crate::cholesky::wide;
use crate::config::{BetaMethod, RowWeighting};
use crate::error::Result;
use crate::fits::{BetaPart, BetaSums, are_few};

/// The correction β of one layer, `[H, t]` in f32; `None` for [`BetaMethod::Zero`].
///
/// Minimises ‖Φ_kept w − Z‖² over w = exp β within the bounds (AM, arXiv 2602.16284, section 3). Φ and Z are taken at
/// one shift, and Z is the mass of the FULL cache. In so many `steps`, or for the optimum.
///
/// # Shapes
///
/// `weights` Φ of the kept keys `[H, n, t]`, `mass` Z `[H, n, 1]`.
///
/// # Numerics
///
/// f32 with Φ ≤ 1 ≤ Z. A padding slot has a column of zeros: its β is finite and its stored bias stays −∞.
pub(crate) fn fit_beta(
    weights: &Tensor,
    mass: &Tensor,
    steps: Option<usize>,
    method: BetaMethod,
    sums: &mut BetaSums,
) -> Result<Option<Tensor>> {
    let BetaMethod::Nnls { lower, upper, start, rows, .. } = method else { return Ok(None) };
    let bounds = (lower.exp(), upper.exp());
    let (a, y) = match rows {
        RowWeighting::Mass => (weights.clone(), mass.clone()),
        RowWeighting::Relative => (weights.broadcast_div(mass)?, mass.ones_like()?),
    };
    let w = match steps {
        Some(steps) => projected_gradient(&a, &y, bounds, steps, start)?,
        None => optimum(&a, &y, bounds)?,
    };
    let ones = w.ones_like()?;
    let (before, after) = ((weights.matmul(&ones)? - mass)?, (weights.matmul(&w)? - mass)?);
    let w = w.squeeze(2)?;
    let part = BetaPart {
        before: squared_norm(&before)?,
        after: squared_norm(&after)?,
        mass: squared_norm(mass)?,
        clamped: clamped(&w, &weights.sum(1)?, bounds)?,
    };
    sums.add(&part, steps.unwrap_or(0));
    Ok(Some(w.log()?))
}

/// The w within bounds that minimises ‖A w − y‖², `[H, t, 1]`.
fn optimum(a: &Tensor, y: &Tensor, bounds: (f64, f64)) -> Result<Tensor> {
    let (heads, n, t) = a.dims3()?;
    let to = a.device();
    // An optimum of few rows leaves less over than what rounding makes of products in f32, and not every device has f64.
    let (a, y) = if are_few(n, t) { (exactly(a)?, exactly(y)?) } else { (a.clone(), y.clone()) };
    let mut all = Vec::with_capacity(heads * t);
    for head in 0..heads {
        let (a, y) = (a.get(head)?, y.get(head)?);
        let at = a.t()?;
        let (gram, image) = (wide(&at.matmul(&a)?)?, wide(&at.matmul(&y)?)?);
        let bounded =
            Bounded { gram: &gram, image: &image, squared: wide(&y)?.iter().map(|y| y * y).sum(), bounds };
        let w = bounded.solve(&vec![bounded.shared_weight(); t], ROUNDS)?;
        all.extend(w.into_iter().map(|w| w as f32));
    }
    Ok(Tensor::from_vec(all, (heads, t, 1), &Device::Cpu)?.to_device(to)?)
}

fn exactly(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
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
