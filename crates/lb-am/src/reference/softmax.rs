//! The one softmax of this crate: logits, their row maximum, unnormalised weights and their mass.

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::layout::transposed;

/// The softmax before its division. One shift `max` serves weights and mass alike, so weights over a part of the
/// keys can be compared with the mass over all of them.
pub(crate) struct Softmax {
    /// Row maximum m, `[H, n, 1]`.
    pub(crate) max: Tensor,
    /// Φ = exp(s − m), `[H, n, S]`.
    pub(crate) weights: Tensor,
    /// Z = Σ Φ, `[H, n, 1]`, at least 1.
    pub(crate) mass: Tensor,
}

/// s = scale · Q Kᵀ + b.
///
/// # Shapes
///
/// `queries` `[H, n, d]` and `keys` `[H, S, d]` in f32, `bias` `[H, S]`; returns `[H, n, S]`.
pub(crate) fn logits(queries: &Tensor, keys: &Tensor, bias: Option<&Tensor>, scale: f32) -> Result<Tensor> {
    // Scaling the queries is n·d products instead of n·S.
    let logits = (queries * f64::from(scale))?.matmul(&transposed(keys)?)?;
    Ok(match bias {
        Some(bias) => logits.broadcast_add(&bias.unsqueeze(1)?)?,
        None => logits,
    })
}

/// Φ, Z and their shift.
pub(crate) fn softmax(logits: &Tensor) -> Result<Softmax> {
    let max = logits.max_keepdim(D::Minus1)?;
    let weights = weights_at(logits, &max)?;
    let mass = weights.sum_keepdim(D::Minus1)?;
    Ok(Softmax { max, weights, mass })
}

/// exp(s − m) for a given shift m.
pub(crate) fn weights_at(logits: &Tensor, max: &Tensor) -> Result<Tensor> {
    Ok(logits.broadcast_sub(max)?.exp()?)
}

/// P = Φ / Z.
pub(crate) fn probabilities(logits: &Tensor) -> Result<Tensor> {
    let Softmax { weights, mass, .. } = softmax(logits)?;
    Ok(weights.broadcast_div(&mass)?)
}
