//! What the machine can do: its own best matrix product.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
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
        let mut peak = Self { dtype: dtype.as_str().to_owned(), by: by.to_owned(), gflops: 0.0, size: 0 };
        for size in SIZES {
            let matrix = |seed| {
                let noise = Noise::new(seed);
                by_rows(&[size, size], dtype, device, |row, out| {
                    for (index, out) in out.iter_mut().enumerate() {
                        *out = noise.normal(row * size + index);
                    }
                })
            };
            let (a, b) = (matrix(1)?, matrix(2)?);
            product(&a, &b)?;
            device.synchronize()?;
            let begin = Instant::now();
            while begin.elapsed() < TIME {
                let started = Instant::now();
                product(&a, &b)?;
                device.synchronize()?;
                let gflops = 2.0 * (size as f64).powi(3) / started.elapsed().as_secs_f64() / 1e9;
                if gflops > peak.gflops {
                    (peak.gflops, peak.size) = (gflops, size);
                }
            }
        }
        Ok(peak)
    }
}
