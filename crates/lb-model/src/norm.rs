//! Root mean square norm.

use candle_core::Tensor;

use crate::ModelConfig;
use crate::Result;
use crate::buffers;
use crate::plain::{Reading, by_rows, by_rows_of_both, is_plain, numbers_of, read, tensor};
use crate::weights::Weights;

/// `x / sqrt(mean(x^2) + eps) * gain` over the last dimension, sums in f32.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    pub(crate) gain: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// The norm `{name}.weight` over rows of `width`.
    pub(crate) fn load(
        weights: &mut Weights,
        name: &str,
        width: usize,
        config: &ModelConfig,
    ) -> Result<Self> {
        let offset = config.family.spec().norm_offset;
        let gain = weights.gain(&format!("{name}.weight"), width, offset)?;
        Ok(Self { gain, eps: config.rms_norm_eps as f32 })
    }

    #[cfg(test)]
    pub(crate) fn new(gain: Tensor, eps: f32) -> Self {
        Self { gain, eps }
    }

    /// Any shape whose last dimension is the norm's width.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        if !self.takes(&x) {
            return self.plain(&x);
        }
        let (from, gain) = (read(&x)?, read(&self.gain)?);
        let (norm, width) = (self.of(&gain), gain.len());
        let mut out = buffers::take(from.len());
        by_rows(&mut out, width, |row, out| norm.rows(&from[row * width..][..out.len()], out));
        tensor(out, x.shape())
    }

    /// [`forward`](Self::forward) by plain operations.
    pub(crate) fn plain(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::rms_norm(x, &self.gain, self.eps)?)
    }

    /// `x + y` and its norm. Nobody else reads either any more.
    pub(crate) fn of_sum(&self, x: Tensor, y: Tensor) -> Result<(Tensor, Tensor)> {
        if !self.takes(&x) || !self.takes(&y) || x.dims() != y.dims() {
            let sum = (x + y)?;
            let normed = self.forward(&sum)?;
            return Ok((sum, normed));
        }
        let shape = x.shape().clone();
        let (mut x, mut y, gain) = (numbers_of(x)?, numbers_of(y)?, read(&self.gain)?);
        by_rows_of_both(&mut x, &mut y, gain.len(), |x, y| self.of(&gain).rows_of_sum(x, y));
        Ok((tensor(x, &shape)?, tensor(y, &shape)?))
    }

    fn takes(&self, x: &Tensor) -> bool {
        is_plain(x) && x.dims().last().copied() == self.width_on_cpu()
    }

    /// The width of rows that kernels norm; `None` where they do not.
    pub(crate) fn width_on_cpu(&self) -> Option<usize> {
        is_plain(&self.gain).then_some(self.gain.elem_count())
    }

    /// For [`of`](Self::of).
    pub(crate) fn gain(&self) -> Result<Reading<'_>> {
        read(&self.gain)
    }

    pub(crate) fn of<'a>(&self, gain: &'a [f32]) -> lb_kernels::RmsNorm<'a> {
        lb_kernels::RmsNorm { gain, eps: self.eps }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::RmsNorm;
    use crate::Result;

    /// Sums in another order, relative to the largest number of a row.
    const BOUND: f64 = 1e-6;

    /// Alone and behind a sum, with few rows and many, as by plain operations.
    #[test]
    fn a_norm_is_that_of_plain_operations() -> Result<()> {
        for (rows, width) in [(1, 4), (3, 1000), (90, 1024)] {
            let random = |dims: &[usize]| Tensor::randn(0f32, 1.0, dims, &Device::Cpu);
            let norm = RmsNorm::new(random(&[width])?, 1e-6);
            let (x, y) = (random(&[rows, width])?, random(&[rows, width])?);
            let sum = (&x + &y)?;
            let near = |got: &Tensor, of: &Tensor| -> Result<()> {
                let want = norm.plain(of)?;
                let error = (got - &want)?.abs()?.max_all()?.to_scalar::<f32>()?;
                let largest = want.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(f64::from(error) <= BOUND * f64::from(largest), "{rows} x {width}: {error:e}");
                Ok(())
            };
            near(&norm.forward(&x)?, &x)?;
            let (added, normed) = norm.of_sum(x, y)?;
            assert_eq!(added.to_vec2::<f32>()?, sum.to_vec2::<f32>()?);
            near(&normed, &sum)?;
        }
        Ok(())
    }
}
