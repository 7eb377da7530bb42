//! Steps between the products, of plain operations that all have gradients.

use candle_core::{D, DType, Device, Tensor};

use crate::Result;
use crate::rope::Rotation;

/// `x / sqrt(mean(x²) + eps) · gain` over the last dimension.
pub(super) fn normed(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    Ok(x.broadcast_div(&size)?.broadcast_mul(gain)?)
}

/// Each head of `x` (`[heads, tokens, d]`) turned by its token's position, halves paired as in
/// [`Rotation::apply`](crate::rope::Rotation::apply).
pub(super) fn turned(x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    let half = x.dim(2)? / 2;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let by = |x: &Tensor, with: &Tensor| x.broadcast_mul(with);
    let (cos, sin) = (&rotation.cos, &rotation.sin);
    let (left, right) = ((by(&a, cos)? - by(&b, sin)?)?, (by(&b, cos)? + by(&a, sin)?)?);
    Ok(Tensor::cat(&[left, right], 2)?)
}

/// Over the last dimension. The largest score is taken away as a constant: it changes nothing, and so has no gradient.
pub(super) fn softmax(scores: &Tensor) -> Result<Tensor> {
    let largest = scores.detach().max_keepdim(D::Minus1)?;
    let weights = scores.broadcast_sub(&largest)?.exp()?;
    Ok(weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?)
}

/// What hides later tokens from earlier ones, `[tokens, tokens]`, added to scores.
pub(super) fn causal(tokens: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let mask = crate::pass::causal_mask(tokens, device)?;
    let mask = mask.map_or_else(|| Tensor::zeros((1, 1), DType::F32, device), Ok)?;
    Ok(mask.to_dtype(dtype)?)
}
