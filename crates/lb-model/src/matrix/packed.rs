//! Blocks of a GGUF file on the CPU: read where they lie, in the file's own pages if need be, and summed in f32.
//!
//! candle has products with blocks too. They round the activations to 8 bits, and its threads wait for one another by
//! spinning, which takes nearly all the speed where the cores are shared with other programs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
use lb_kernels::{QuantFormat, QuantizedSlice, Weight};

use super::dense::product_of;
use crate::config::check;
use crate::{Error, Result};

/// Bytes, owned or in a mapped file. Cloning shares them.
#[derive(Clone)]
pub(crate) enum Bytes {
    Owned(Arc<[u8]>),
    Mapped(Arc<memmap2::Mmap>, Range<usize>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map, range) => &map[range.clone()],
        }
    }
}

/// A matrix in blocks.
#[derive(Clone)]
pub(crate) struct Packed {
    bytes: Bytes,
    kind: QuantFormat,
    rows: usize,
    columns: usize,
    /// Long inputs may be multiplied in bf16.
    round: bool,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({:?}, [{}, {}])", self.kind, self.rows, self.columns)
    }
}

/// The kernels' name of a type of blocks.
fn kind_of(dtype: GgmlDType) -> Option<QuantFormat> {
    Some(match dtype {
        GgmlDType::Q4_0 => QuantFormat::Q4_0,
        GgmlDType::Q4_1 => QuantFormat::Q4_1,
        GgmlDType::Q5_0 => QuantFormat::Q5_0,
        GgmlDType::Q5_1 => QuantFormat::Q5_1,
        GgmlDType::Q8_0 => QuantFormat::Q8_0,
        GgmlDType::Q2K => QuantFormat::Q2K,
        GgmlDType::Q3K => QuantFormat::Q3K,
        GgmlDType::Q4K => QuantFormat::Q4K,
        GgmlDType::Q5K => QuantFormat::Q5K,
        GgmlDType::Q6K => QuantFormat::Q6K,
        _ => return None,
    })
}

impl Packed {
    /// `bytes` must be `rows` rows of whole blocks, `columns` numbers each.
    pub(crate) fn new(bytes: Bytes, dtype: GgmlDType, rows: usize, columns: usize) -> Result<Self> {
        let kind = kind_of(dtype).ok_or_else(|| Error::Config {
            field: "dtype",
            value: format!("{dtype:?}"),
            reason: "a type of blocks".to_owned(),
        })?;
        check(columns.is_multiple_of(kind.numbers()), "columns", columns, "whole blocks")?;
        let (count, wanted) = (bytes.as_slice().len(), rows * (columns / kind.numbers()) * kind.bytes());
        check(count == wanted, "weight", count, "as many bytes as its shape says")?;
        Ok(Self { bytes, kind, rows, columns, round: false })
    }

    /// The same matrix, multiplied with long inputs in bf16 where the CPU can.
    pub(crate) fn rounding(self) -> Self {
        Self { round: true, ..self }
    }

    /// The blocks of some rows.
    fn blocks(&self, rows: Range<usize>) -> candle_core::Result<QuantizedSlice<'_>> {
        let row = self.columns / self.kind.numbers() * self.kind.bytes();
        let bytes = self.bytes.as_slice().get(rows.start * row..rows.end * row);
        match bytes.and_then(|bytes| QuantizedSlice::new(self.kind, bytes)) {
            Some(blocks) => Ok(blocks),
            None => candle_core::bail!("rows {rows:?} of {}", self.rows),
        }
    }

    /// All of it in f32.
    pub(crate) fn unpacked(&self) -> Result<Tensor> {
        self.rows(&(0..self.rows as u32).collect::<Vec<_>>())
    }

    /// The rows of `ids`, f32; the ids are in range.
    pub(crate) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let mut out = vec![0f32; ids.len() * self.columns];
        for (&id, to) in ids.iter().zip(out.chunks_exact_mut(self.columns)) {
            self.blocks(id as usize..id as usize + 1)?.to_f32(to);
        }
        Ok(Tensor::from_vec(out, (ids.len(), self.columns), &Device::Cpu)?)
    }

    /// `x Wᵀ`: f32 `[tokens, columns]` to f32 `[tokens, rows]`.
    ///
    /// # Numerics
    ///
    /// As [`gemm`](lb_kernels::gemm): the activations are not rounded, but for long inputs where that was asked for.
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op1_no_bwd(self)?)
    }
}

impl CustomOp1 for Packed {
    fn name(&self) -> &'static str {
        "packed-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let weight = Weight::Quantized(self.blocks(0..self.rows)?);
        product_of(x, layout, weight, (self.rows, self.columns), self.round)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{DType, Device, Tensor};

    use super::{Bytes, Packed};

    const KINDS: [GgmlDType; 10] = [
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ];

    /// Relative to the sum of the products' sizes: f32 sums.
    const BOUND: f64 = 1e-6;

    /// Random numbers in blocks, and what candle unpacks them to.
    fn random(dtype: GgmlDType, rows: usize, columns: usize) -> crate::Result<(Packed, Vec<f32>)> {
        let numbers = Tensor::randn(0.1f32, 1.0, (rows, columns), &Device::Cpu)?;
        let blocks = QTensor::quantize(&numbers, dtype)?;
        let packed = Packed::new(Bytes::Owned(blocks.data()?.into()), dtype, rows, columns)?;
        let unpacked = blocks.dequantize(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok((packed, unpacked))
    }

    /// The sum in f64, and the sum of the sizes of what is summed.
    fn dot(a: &[f32], b: &[f32]) -> (f64, f64) {
        let terms = || a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        (terms().sum(), terms().map(f64::abs).sum())
    }

    /// Few rows and many, whole units of blocks and parts of them, one thread and more, against sums in f64 over what candle
    /// unpacks. Threads change nothing, to the bit.
    #[test]
    fn products_are_those_of_the_unpacked_numbers() -> crate::Result<()> {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let pools = [pool(1), pool(3)];
        for dtype in KINDS {
            let block = dtype.block_size();
            for (rows, columns) in [(1, block), (5, 9 * block), (130, 3 * block), (263, 2048)] {
                let (packed, unpacked) = random(dtype, rows, columns)?;
                for tokens in [1, 2, 6, 7, 48, 53, 100] {
                    let x = Tensor::randn(0f32, 1.0, (tokens, columns), &Device::Cpu)?;
                    let of = |pool: &rayon::ThreadPool| -> crate::Result<Vec<Vec<f32>>> {
                        Ok(pool.install(|| packed.product(&x))?.to_vec2()?)
                    };
                    let [alone, together] = [of(&pools[0])?, of(&pools[1])?];
                    assert_eq!(alone, together, "{dtype:?} {rows}x{columns}, {tokens}");
                    for (x, found) in x.to_vec2::<f32>()?.iter().zip(&alone) {
                        for (row, found) in unpacked.chunks_exact(columns).zip(found) {
                            let (sum, size) = dot(x, row);
                            let far = (f64::from(*found) - sum).abs() / size;
                            assert!(far < BOUND, "{dtype:?} {rows}x{columns}, {tokens}: {far:e}");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// To the bit what candle unpacks, in any order.
    #[test]
    fn rows_are_those_of_candle() -> crate::Result<()> {
        for dtype in KINDS {
            let columns = 5 * dtype.block_size();
            let (packed, unpacked) = random(dtype, 40, columns)?;
            let ids = [39, 0, 17, 17];
            for (id, row) in ids.iter().zip(packed.rows(&ids)?.to_vec2::<f32>()?) {
                assert_eq!(row, unpacked[*id as usize * columns..][..columns], "{dtype:?}, row {id}");
            }
            assert!(packed.rows(&[40]).is_err());
        }
        Ok(())
    }

    #[test]
    fn bytes_must_fit_the_shape() {
        let bytes = |len: usize| Bytes::Owned(vec![0; len].into());
        assert!(Packed::new(bytes(2 * 34), GgmlDType::Q8_0, 2, 32).is_ok());
        assert!(Packed::new(bytes(2 * 34 - 1), GgmlDType::Q8_0, 2, 32).is_err());
        assert!(Packed::new(bytes(2 * 34), GgmlDType::Q8_0, 1, 33).is_err());
        assert!(Packed::new(bytes(128), GgmlDType::F16, 2, 32).is_err());
    }
}
