//! Products with weights that stay as they are.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Storage, Tensor};

use crate::Result;
use crate::matrix::{Linear, product};

/// `x Wᵀ + b` with a gradient for `x` alone.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    /// `[outputs, inputs]`.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Frozen {
    pub(super) fn of(linear: &Linear, dtype: DType) -> Result<Self> {
        let bias = linear.bias.as_ref().map(|bias| bias.to_dtype(dtype)).transpose()?;
        Ok(Self { weight: linear.weight.unpacked()?.to_dtype(dtype)?.contiguous()?, bias })
    }

    /// `x`: `[tokens, inputs]`; the result `[tokens, outputs]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = if x.device().is_cpu() {
            x.contiguous()?.apply_op1(Product(self.weight.clone()))?
        } else {
            // Elsewhere the weight's gradient is computed with it, and not looked at.
            x.matmul(&self.weight.t()?)?
        };
        match &self.bias {
            None => Ok(y),
            Some(bias) => Ok(y.broadcast_add(bias)?),
        }
    }
}

/// What candle knows of a product has gradients for both sides; this one has none for the weight.
struct Product(Tensor);

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "frozen-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Some((from, to)) = layout.contiguous_offsets() else {
            candle_core::bail!("activations must be contiguous");
        };
        let (shape, device) = (layout.shape(), self.0.device());
        let x = match x {
            CpuStorage::F64(numbers) => Tensor::from_slice(&numbers[from..to], shape, device)?,
            numbers => Tensor::from_slice(&numbers.as_slice::<f32>()?[from..to], shape, device)?,
        };
        let y = product(&x, &self.0).map_err(candle_core::Error::wrap)?;
        let (storage, layout) = y.storage_and_layout();
        match &*storage {
            Storage::Cpu(numbers) => Ok((numbers.try_clone(layout)?, layout.shape().clone())),
            _ => candle_core::bail!("the weight must be on the CPU"),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        gradient.contiguous()?.matmul(&self.0).map(Some)
    }
}
