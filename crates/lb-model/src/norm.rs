//! Root mean square norm.

use candle_core::Tensor;

use crate::Result;
use crate::weights::Weights;

/// `x / sqrt(mean(x^2) + eps) * gain` over the last dimension, sums in f32.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    gain: Tensor,
    eps: f32,
}

impl RmsNorm {
    pub(crate) fn load(weights: &mut Weights, name: &str, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { gain: weights.vector(name, width)?, eps: eps as f32 })
    }

    /// Any shape whose last dimension is the norm's width.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(&x.contiguous()?, &self.gain, self.eps)?)
    }
}
