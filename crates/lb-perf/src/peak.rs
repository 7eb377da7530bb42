//! What the machine can do: its own best matrix product.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use half::bf16;
use lb_kernels::{FloatSlice, gemm};
use serde::{Deserialize, Serialize};

use super::noise::{Noise, by_rows};
use crate::Result;

/// Square products that are tried: large enough to be bound by arithmetic, and not by the same cache level each.
const SIZES: [usize; 3] = [512, 1024, 2048];
/// Time that each size gets, after one product to warm up.
const TIME: Duration = Duration::from_millis(400);

/// The fastest matrix product that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Dtype of the factors.
    pub dtype: String,
    /// What multiplied them.
    pub by: String,
    /// 10⁹ floating point operations a second, a product of n x n matrices counted as 2 n³.
    pub gflops: f64,
    /// n of the fastest one.
    pub size: usize,
}

impl Peak {
    /// The best of candle's own products in `dtype`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a dtype other than f32, bf16 and f16;
    /// [`Error::Tensor`](crate::Error::Tensor).
    pub fn candle(dtype: DType, device: &Device) -> Result<Self> {
        Self::of("candle", dtype, device, |a, b| Ok(a.matmul(b)?))
    }

    /// The best of another product of two `[n, n]` tensors, for kernels that candle does not have.
    ///
    /// # Errors
    /// Those of [`candle`](Self::candle) and of `product`.
    pub fn of(
        by: &str,
        dtype: DType,
        device: &Device,
        product: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut peak = Self::none(dtype, by);
        for size in SIZES {
            let (a, b) = (matrix(1, size, dtype, device)?, matrix(2, size, dtype, device)?);
            peak.time(size, || {
                product(&a, &b)?;
                Ok(device.synchronize()?)
            })?;
        }
        Ok(peak)
    }

    /// The best of this library's own kernel on the CPU, for f32 and bf16: the fastest product here that takes the numbers
    /// as a cache has them.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor).
    pub fn kernel(dtype: DType) -> Result<Self> {
        let mut peak = Self::none(dtype, "kernel");
        for size in SIZES {
            let numbers = |seed| -> Result<Vec<f32>> {
                Ok(matrix(seed, size, DType::F32, &Device::Cpu)?.flatten_all()?.to_vec1()?)
            };
            let (a, b) = (numbers(1)?, numbers(2)?);
            let narrow: Vec<bf16> = b.iter().map(|x| bf16::from_f32(*x)).collect();
            let b = if dtype == DType::BF16 { FloatSlice::Bf16(&narrow) } else { FloatSlice::F32(&b) };
            let mut out = vec![0.0; size * size];
            peak.time(size, || {
                gemm(&a, b.into(), size, true, &mut out);
                Ok(())
            })?;
        }
        Ok(peak)
    }

    fn none(dtype: DType, by: &str) -> Self {
        Self { dtype: dtype.as_str().to_owned(), by: by.to_owned(), gflops: 0.0, size: 0 }
    }

    /// Runs a product of two `[size, size]` matrices for a while, and keeps the best.
    fn time(&mut self, size: usize, mut product: impl FnMut() -> Result<()>) -> Result<()> {
        product()?;
        let begin = Instant::now();
        while begin.elapsed() < TIME {
            let started = Instant::now();
            product()?;
            let gflops = 2.0 * (size as f64).powi(3) / started.elapsed().as_secs_f64() / 1e9;
            if gflops > self.gflops {
                (self.gflops, self.size) = (gflops, size);
            }
        }
        Ok(())
    }
}

fn matrix(seed: u64, size: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let noise = Noise::new(seed);
    by_rows(&[size, size], dtype, device, |row, out| {
        for (index, out) in out.iter_mut().enumerate() {
            *out = noise.normal(row * size + index);
        }
    })
}
