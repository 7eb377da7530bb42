//! bf16 and f16 weights on the CPU: read where they lie, in the file's own pages if need be, and summed in f32.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::few::{FEW, few_tokens};
use super::kernel;
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
}

impl fmt::Debug for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Narrow({:?}, [{}, {}])", self.dtype, self.rows, self.columns)
    }
}

impl Narrow {
    /// `bits` must be `rows * columns` numbers of `dtype`, which is BF16 or F16.
    pub(crate) fn new(bits: Bits, dtype: DType, rows: usize, columns: usize) -> Result<Self> {
        check(matches!(dtype, DType::BF16 | DType::F16), "dtype", format!("{dtype:?}"), "bf16 or f16")?;
        let count = bits.as_slice().len();
        check(count == rows * columns, "weight", count, "as many numbers as its shape says")?;
        Ok(Self { bits, dtype, rows, columns })
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

    fn row(&self, index: usize) -> &[u16] {
        &self.bits.as_slice()[index * self.columns..(index + 1) * self.columns]
    }

    /// The rows of `ids`, f32; the ids are in range.
    pub(crate) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let mut out = vec![0f32; ids.len() * self.columns];
        for (&id, to) in ids.iter().zip(out.chunks_exact_mut(self.columns)) {
            self.widen(self.row(id as usize), to);
        }
        Ok(Tensor::from_vec(out, (ids.len(), self.columns), &Device::Cpu)?)
    }

    /// `x Wᵀ`: f32 `[tokens, columns]` to f32 `[tokens, rows]`.
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        // A few rows widen the matrix on the fly, row by row; more of them once as a whole.
        if x.dim(0)? <= FEW {
            return Ok(x.contiguous()?.apply_op1_no_bwd(self)?);
        }
        Ok(x.matmul(&self.widened()?.t()?)?)
    }

    /// The matrix in f32.
    pub(crate) fn widened(&self) -> Result<Tensor> {
        const PIECE: usize = 1 << 16;
        let mut wide = vec![0f32; self.rows * self.columns];
        wide.par_chunks_mut(PIECE)
            .zip(self.bits.as_slice().par_chunks(PIECE))
            .for_each(|(to, from)| self.widen(from, to));
        Ok(Tensor::from_vec(wide, (self.rows, self.columns), &Device::Cpu)?)
    }

    fn widen(&self, from: &[u16], to: &mut [f32]) {
        match self.dtype {
            DType::BF16 => kernel::widen::<kernel::Bf16>(from, to),
            _ => kernel::widen::<kernel::F16>(from, to),
        }
    }

    /// A few tokens, one row of the weight after another.
    fn few(&self, x: &[f32], tokens: usize) -> Vec<f32> {
        let columns = self.columns;
        few_tokens(self.rows, columns, tokens, |first, out| {
            let weights = &self.bits.as_slice()[first * columns..];
            match self.dtype {
                DType::BF16 => kernel::dots::<kernel::Bf16>(weights, x, columns, tokens, out),
                _ => kernel::dots::<kernel::F16>(weights, x, columns, tokens, out),
            }
        })
    }
}

impl CustomOp1 for Narrow {
    fn name(&self) -> &'static str {
        "narrow-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (tokens, columns) = layout.shape().dims2()?;
        if columns != self.columns {
            candle_core::bail!("{columns} columns against a weight of {}", self.columns);
        }
        let Some((from, to)) = layout.contiguous_offsets() else {
            candle_core::bail!("activations must be contiguous");
        };
        let out = self.few(&x.as_slice::<f32>()?[from..to], tokens);
        Ok((CpuStorage::F32(out), Shape::from((tokens, self.rows))))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use half::{bf16, f16};

    use super::{Bits, FEW, Narrow};

    /// Every finite number there is, subnormal ones and both zeros included, to the bit.
    #[test]
    fn widening_is_exact() -> crate::Result<()> {
        for dtype in [DType::BF16, DType::F16] {
            let exact = |bits: u16| match dtype {
                DType::BF16 => bf16::from_bits(bits).to_f32(),
                _ => f16::from_bits(bits).to_f32(),
            };
            let finite: Vec<u16> = (0..=u16::MAX).filter(|bits| exact(*bits).is_finite()).collect();
            let narrow = Narrow::new(Bits::Owned(finite.clone().into()), dtype, 1, finite.len())?;
            let wide = narrow.widened()?.flatten_all()?.to_vec1::<f32>()?;
            for (bits, wide) in finite.into_iter().zip(wide) {
                assert_eq!(wide.to_bits(), exact(bits).to_bits(), "{dtype:?} {bits:#x}");
            }
        }
        Ok(())
    }

    /// Both ways to multiply, against the widened matrix; odd sizes, so that every tail is met.
    #[test]
    fn products_are_those_of_the_widened_matrix() -> crate::Result<()> {
        for dtype in [DType::BF16, DType::F16] {
            for (rows, columns) in [(1, 1), (3, 17), (37, 130), (64, 256), (5, 1031)] {
                let weight = Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu)?.to_dtype(dtype)?;
                let narrow = Narrow::from_tensor(&weight)?;
                for tokens in [1, 2, 3, 7, FEW, FEW + 1] {
                    let x = Tensor::randn(0f32, 1.0, (tokens, columns), &Device::Cpu)?;
                    let expected = x.matmul(&weight.to_dtype(DType::F32)?.t()?)?;
                    let error = (narrow.product(&x)? - &expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
                    assert!(error < 1e-6 * columns as f32, "{dtype:?} {rows}x{columns}, {tokens}: {error}");
                }
                let rows = narrow.rows(&[rows as u32 - 1])?.flatten_all()?.to_vec1::<f32>()?;
                let last = weight.to_dtype(DType::F32)?.to_vec2::<f32>()?.pop().unwrap();
                assert_eq!(rows, last);
            }
        }
        Ok(())
    }
}
