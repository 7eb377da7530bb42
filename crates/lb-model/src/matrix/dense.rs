//! Weights in the dtype of the activations.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Tensor};
use lb_kernels::{FloatSlice, Weight, gemm};

use crate::Result;

/// `x Wᵀ`, by the kernels for f32 on the CPU.
pub(crate) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() == DType::F32 && weight.is_contiguous() {
        return Ok(x.contiguous()?.apply_op2_no_bwd(weight, &Product)?);
    }
    Ok(x.matmul(&weight.t()?)?)
}

/// [`gemm`] of contiguous activations `[tokens, columns]` with a weight `[rows, columns]`.
pub(super) fn product_of(
    x: &CpuStorage,
    layout: &Layout,
    weight: Weight<'_>,
    (rows, columns): (usize, usize),
    allow_bf16: bool,
) -> candle_core::Result<(CpuStorage, Shape)> {
    let (tokens, inputs) = layout.shape().dims2()?;
    if columns != inputs {
        candle_core::bail!("{inputs} columns against a weight of {columns}");
    }
    let Some((from, to)) = layout.contiguous_offsets() else {
        candle_core::bail!("activations must be contiguous");
    };
    let mut out = crate::buffers::take(tokens * rows);
    gemm(&x.as_slice::<f32>()?[from..to], weight, columns, allow_bf16, &mut out);
    Ok((CpuStorage::F32(out), Shape::from((tokens, rows))))
}

struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "dense-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let Some((from, to)) = layout.contiguous_offsets() else {
            candle_core::bail!("the weight must be contiguous");
        };
        let weight = FloatSlice::F32(&weight.as_slice::<f32>()?[from..to]).into();
        product_of(x, x_layout, weight, layout.shape().dims2()?, false)
    }
}
