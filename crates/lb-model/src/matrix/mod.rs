//! Weight matrices, each multiplied as it is stored.

mod dense;
mod narrow;
mod packed;

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{DType, Device, Module, Tensor};

pub(crate) use dense::product;
pub(crate) use narrow::{Bits, Narrow};
pub(crate) use packed::{Bytes, Packed};

use crate::Result;
use crate::plain::plus_row;

/// A weight `[rows, columns]`. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    /// In the dtype of the activations.
    Dense(Tensor),
    /// bf16 or f16 on the CPU, widened while it is multiplied.
    Narrow(Narrow),
    /// Blocks of a GGUF file on the CPU, taken apart while they are multiplied.
    Packed(Packed),
    /// Blocks of a GGUF file on another device, multiplied by candle's kernels.
    Quantized(Arc<Quantized>),
}

/// Both forms share the blocks.
#[derive(Debug)]
pub(crate) struct Quantized {
    blocks: Arc<QTensor>,
    product: QMatMul,
}

impl Matrix {
    /// A quantised matrix of another device than the CPU.
    pub(crate) fn quantized(blocks: QTensor) -> Result<Self> {
        let blocks = Arc::new(blocks);
        let product = QMatMul::from_arc(blocks.clone())?;
        Ok(Self::Quantized(Arc::new(Quantized { blocks, product })))
    }

    /// What its numbers are kept in; f32 for blocks, which stand for such.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Self::Dense(weight) => weight.dtype(),
            Self::Narrow(weight) => weight.dtype(),
            Self::Packed(_) | Self::Quantized(_) => DType::F32,
        }
    }

    /// The same matrix, multiplied with long inputs in its own dtype where the CPU can.
    pub(crate) fn rounding(self) -> Self {
        match self {
            Self::Narrow(narrow) => Self::Narrow(narrow.rounding()),
            Self::Packed(packed) => Self::Packed(packed.rounding()),
            other => other,
        }
    }

    /// `x Wᵀ`: `[tokens, columns]` to `[tokens, rows]`.
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Dense(weight) => dense::product(x, weight)?,
            Self::Narrow(weight) => weight.product(x)?,
            Self::Packed(weight) => weight.product(x)?,
            Self::Quantized(weight) => weight.product.forward(&x.contiguous()?)?,
        })
    }

    /// All of it, `[rows, columns]`, in f32 where it is packed or narrow.
    pub(crate) fn unpacked(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Dense(weight) => weight.clone(),
            Self::Narrow(weight) => weight.widened()?,
            Self::Packed(weight) => weight.unpacked()?,
            Self::Quantized(weight) => weight.blocks.dequantize(&weight.blocks.device())?,
        })
    }

    /// The rows of `ids`, `[ids, columns]`, in `dtype`.
    pub(crate) fn rows(&self, ids: &[u32], dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(match self {
            Self::Dense(weight) => weight.index_select(&Tensor::new(ids, device)?, 0)?,
            Self::Narrow(weight) => weight.rows(ids)?,
            Self::Packed(weight) => weight.rows(ids)?,
            Self::Quantized(weight) => weight.blocks.embedding(&Tensor::new(ids, device)?)?,
        }
        .to_dtype(dtype)?)
    }
}

/// A projection `x Wᵀ + b`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn new(weight: Matrix, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `x`: `[tokens, inputs]`; the result `[tokens, outputs]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.weight.product(x)?;
        match &self.bias {
            None => Ok(y),
            Some(bias) => plus_row(y, bias),
        }
    }
}
