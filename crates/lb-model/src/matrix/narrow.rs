//! bf16 and f16 weights on the CPU: read where they lie, in the file's own pages if need be, and summed in f32.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};
use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use lb_kernels::FloatSlice;
use rayon::prelude::*;

use super::dense::product_of;
use crate::Result;
use crate::config::check;

/// 16-bit numbers, owned or in a mapped file. Cloning shares them.
#[derive(Clone)]
pub(crate) enum Bits {
    Owned(Arc<[u16]>),
    /// Byte range of a map; checked for alignment.
    Mapped(Arc<memmap2::Mmap>, Range<usize>),
}

impl Bits {
    /// The numbers at `range` of `map`, or a copy of them where they are not aligned.
    pub(crate) fn mapped(map: &Arc<memmap2::Mmap>, range: Range<usize>) -> Self {
        match bytemuck::try_cast_slice::<u8, u16>(&map[range.clone()]) {
            Ok(_) if cfg!(target_endian = "little") => Self::Mapped(map.clone(), range),
            _ => Self::copied(&map[range]),
        }
    }

    /// Little-endian bytes.
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        Self::Owned(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
    }

    fn as_slice(&self) -> &[u16] {
        match self {
            Self::Owned(numbers) => numbers,
            Self::Mapped(map, range) => bytemuck::cast_slice(&map[range.clone()]),
        }
    }
}

/// A matrix of 16-bit floats.
#[derive(Clone)]
pub(crate) struct Narrow {
    bits: Bits,
    dtype: DType,
    rows: usize,
    columns: usize,
    /// Whether long inputs are rounded to bf16 for their products.
    round: bool,
}

impl fmt::Debug for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Narrow({:?}, [{}, {}])", self.dtype, self.rows, self.columns)
    }
}

impl Narrow {
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// `bits` must be `rows * columns` numbers of `dtype`, which is BF16 or F16.
    pub(crate) fn new(bits: Bits, dtype: DType, rows: usize, columns: usize) -> Result<Self> {
        check(matches!(dtype, DType::BF16 | DType::F16), "dtype", format!("{dtype:?}"), "bf16 or f16")?;
        let count = bits.as_slice().len();
        check(count == rows * columns, "weight", count, "as many numbers as its shape says")?;
        Ok(Self { bits, dtype, rows, columns, round: false })
    }

    /// The same, with long inputs rounded to bf16 for their products.
    pub(crate) fn rounding(self) -> Self {
        Self { round: true, ..self }
    }

    /// A tensor in memory.
    pub(crate) fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let (rows, columns) = tensor.dims2()?;
        let flat = tensor.flatten_all()?;
        let numbers: Vec<u16> = match tensor.dtype() {
            DType::BF16 => flat.to_vec1::<bf16>()?.into_iter().map(bf16::to_bits).collect(),
            _ => flat.to_dtype(DType::F16)?.to_vec1::<f16>()?.into_iter().map(f16::to_bits).collect(),
        };
        let dtype = if tensor.dtype() == DType::BF16 { DType::BF16 } else { DType::F16 };
        Self::new(Bits::Owned(numbers.into()), dtype, rows, columns)
    }

    /// Where the numbers lie.
    fn numbers(&self) -> FloatSlice<'_> {
        match self.dtype {
            DType::BF16 => FloatSlice::Bf16(self.bits.as_slice().reinterpret_cast()),
            _ => FloatSlice::F16(self.bits.as_slice().reinterpret_cast()),
        }
    }

    /// The rows of `ids`, f32; the ids are in range.
    pub(crate) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let mut out = vec![0f32; ids.len() * self.columns];
        for (&id, to) in ids.iter().zip(out.chunks_exact_mut(self.columns)) {
            self.numbers().range(id as usize * self.columns, self.columns).to_f32(to);
        }
        Ok(Tensor::from_vec(out, (ids.len(), self.columns), &Device::Cpu)?)
    }

    /// The matrix in f32.
    pub(crate) fn widened(&self) -> Result<Tensor> {
        const PIECE: usize = 1 << 16;
        let mut wide = vec![0f32; self.rows * self.columns];
        wide.par_chunks_mut(PIECE).enumerate().for_each(|(index, to)| {
            self.numbers().range(index * PIECE, to.len()).to_f32(to);
        });
        Ok(Tensor::from_vec(wide, (self.rows, self.columns), &Device::Cpu)?)
    }

    /// `x Wᵀ`: f32 `[tokens, columns]` to f32 `[tokens, rows]`.
    ///
    /// # Numerics
    ///
    /// As [`gemm`](lb_kernels::gemm).
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op1_no_bwd(self)?)
    }
}

impl CustomOp1 for Narrow {
    fn name(&self) -> &'static str {
        "narrow-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        product_of(x, layout, self.numbers().into(), (self.rows, self.columns), self.round)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::Narrow;

    /// Few rows and many, against the matrix in f32; odd sizes, so that every tail is met. Errors are relative to the largest
    /// sum; many rows of bf16 are rounded to it where the machine multiplies bf16.
    #[test]
    fn products_are_those_of_the_widened_matrix() -> crate::Result<()> {
        for dtype in [DType::BF16, DType::F16] {
            for (rows, columns) in [(1, 1), (3, 17), (37, 130), (64, 256), (5, 1031)] {
                let weight = Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu)?.to_dtype(dtype)?;
                let narrow = Narrow::from_tensor(&weight)?.rounding();
                for (tokens, rounded) in
                    [(1, false), (2, false), (7, false), (48, false), (49, true), (100, true)]
                {
                    let x = Tensor::randn(0f32, 1.0, (tokens, columns), &Device::Cpu)?;
                    let expected = x.matmul(&weight.to_dtype(DType::F32)?.t()?)?;
                    let error = (narrow.product(&x)? - &expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
                    let size = (columns as f32).sqrt() * 4.0;
                    let bound = if rounded && dtype == DType::BF16 { 4e-3 } else { 4e-6 };
                    assert!(error < bound * size, "{dtype:?} {rows}x{columns}, {tokens}: {error}");
                }
                let rows = narrow.rows(&[rows as u32 - 1])?.flatten_all()?.to_vec1::<f32>()?;
                let last = weight.to_dtype(DType::F32)?.to_vec2::<f32>()?.pop().unwrap();
                assert_eq!(rows, last);
            }
        }
        Ok(())
    }
}
