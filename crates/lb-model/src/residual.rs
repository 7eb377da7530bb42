//! The residual stream.

use candle_core::Tensor;

use crate::Result;
use crate::norm::RmsNorm;
use crate::plain::plus;

/// The stream of one pass, `[rows, hidden]`, and the last block's output, which is added when the next norm reads it.
#[derive(Debug)]
pub(crate) struct Residual {
    x: Tensor,
    pending: Option<Tensor>,
}

impl Residual {
    /// Nobody else reads `x` any more.
    pub(crate) fn new(x: Tensor) -> Self {
        Self { x, pending: None }
    }

    /// Adds a block's output, which nobody else reads any more.
    pub(crate) fn add(self, block: Tensor) -> Result<Self> {
        Ok(Self { x: self.finish()?, pending: Some(block) })
    }

    /// What the next block reads.
    pub(crate) fn normed(self, norm: &RmsNorm) -> Result<(Self, Tensor)> {
        let Some(block) = self.pending else {
            let normed = norm.forward(&self.x)?;
            return Ok((self, normed));
        };
        let (x, normed) = norm.of_sum(self.x, block)?;
        Ok((Self::new(x), normed))
    }

    /// The stream.
    pub(crate) fn finish(self) -> Result<Tensor> {
        match self.pending {
            Some(block) => plus(self.x, &block),
            None => Ok(self.x),
        }
    }
}
