//! Products of a few rows of activations on the CPU, as in decoding: each row of the weight is read once and met with all
//! of them. A product of one token is the same, to the bit, in whatever company it comes.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::kernel;
use crate::Result;

/// With more rows of activations than this, matrix products of blocks are faster.
pub(super) const FEW: usize = 12;

/// Numbers of the weight that one thread takes at a time.
const PIECE: usize = 1 << 17;

/// `x Wᵀ` for an f32 weight on the CPU; `None` where a product of blocks is the better one.
pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Option<Tensor>> {
    if !x.device().is_cpu() || x.dtype() != candle_core::DType::F32 || x.dim(0)? > FEW {
        return Ok(None);
    }
    Ok(Some(x.contiguous()?.apply_op2_no_bwd(weight, &Product)?))
}

/// Fills `[tokens, rows]` piece by piece: `fill` gets the first row of a piece and its `[rows of the piece, tokens]`.
pub(super) fn few_tokens(
    rows: usize,
    columns: usize,
    tokens: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut by_row = vec![0f32; rows * tokens];
    let together = PIECE.div_ceil(columns.max(1));
    by_row.par_chunks_mut(together * tokens).enumerate().for_each(|(piece, out)| fill(piece * together, out));
    if tokens == 1 {
        return by_row;
    }
    let mut out = vec![0f32; rows * tokens];
    for (row, values) in by_row.chunks_exact(tokens).enumerate() {
        for (token, value) in values.iter().enumerate() {
            out[token * rows + row] = *value;
        }
    }
    out
}

struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "few-rows-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let ((tokens, columns), (rows, inputs)) = (x_layout.shape().dims2()?, weight_layout.shape().dims2()?);
        if columns != inputs {
            candle_core::bail!("{columns} columns against a weight of {inputs}");
        }
        let contiguous = x_layout.contiguous_offsets().zip(weight_layout.contiguous_offsets());
        let Some(((x_from, x_to), (from, to))) = contiguous else {
            candle_core::bail!("activations and weight must be contiguous");
        };
        let (x, weight) = (&x.as_slice::<f32>()?[x_from..x_to], &weight.as_slice::<f32>()?[from..to]);
        let out = few_tokens(rows, columns, tokens, |first, out| {
            kernel::dots_f32(&weight[first * columns..], x, columns, tokens, out);
        });
        Ok((CpuStorage::F32(out), Shape::from((tokens, rows))))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{FEW, product};

    /// Against the product of blocks; and each token alone, to the bit.
    #[test]
    fn few_rows_are_those_of_the_product() -> crate::Result<()> {
        for (rows, columns) in [(1, 1), (3, 17), (300, 515), (64, 256)] {
            let weight = Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu)?;
            let x = Tensor::randn(0f32, 1.0, (FEW, columns), &Device::Cpu)?;
            let got = product(&x, &weight)?.expect("few rows");
            let error = (&got - x.matmul(&weight.t()?)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(error < 1e-6 * columns as f32, "{rows}x{columns}: {error}");
            for token in 0..FEW {
                let alone = product(&x.narrow(0, token, 1)?, &weight)?.expect("one row");
                assert_eq!(alone.to_vec2::<f32>()?[0], got.to_vec2::<f32>()?[token]);
            }
        }
        let many = Tensor::zeros((FEW + 1, 4), candle_core::DType::F32, &Device::Cpu)?;
        assert!(product(&many, &many)?.is_none());
        Ok(())
    }
}
