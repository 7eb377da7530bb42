//! Random numbers that are cheap enough to fill a cache of gigabytes, the same whatever the number of threads.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::{Error, Result};

/// A stream of random numbers that is read by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// A stream of its own.
    pub(crate) fn part(self, index: usize) -> Self {
        Self(self.bits(index))
    }

    /// 64 random bits (the finaliser of SplitMix64; Steele, Lea and Flood, 2014).
    pub(crate) fn bits(self, index: usize) -> u64 {
        mix(self.0.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// About normal with variance 1: the sum of four uniform numbers of 16 bits.
    pub(crate) fn normal(self, index: usize) -> f32 {
        let bits = self.bits(index);
        let sum = (0..4).map(|part| (bits >> (16 * part)) as u16).map(i32::from).sum::<i32>();
        // Four uniform numbers in [0, 1) have a variance of 1/3 together.
        (sum - 2 * 65_535) as f32 * (3f32.sqrt() / 65_536.0)
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A tensor whose rows `fill` writes, given the number of the row, rows in parallel.
pub(crate) fn by_rows(
    dims: &[usize],
    dtype: DType,
    device: &Device,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Tensor> {
    let tensor = match dtype {
        DType::F32 => Tensor::from_vec(rows(dims, |value| value, fill), dims, &Device::Cpu)?,
        DType::BF16 => Tensor::from_vec(rows(dims, bf16::from_f32, fill), dims, &Device::Cpu)?,
        DType::F16 => Tensor::from_vec(rows(dims, f16::from_f32, fill), dims, &Device::Cpu)?,
        other => return Err(Error::config("dtype", other.as_str(), "must be f32, bf16 or f16")),
    };
    Ok(tensor.to_device(device)?)
}

fn rows<T: Copy + Default + Send>(
    dims: &[usize],
    cast: impl Fn(f32) -> T + Sync,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<T> {
    let width = dims.last().copied().unwrap_or(1).max(1);
    let mut values = vec![T::default(); dims.iter().product()];
    values.par_chunks_mut(width).enumerate().for_each_init(
        || vec![0f32; width],
        |row, (index, out)| {
            fill(index, row);
            for (out, value) in out.iter_mut().zip(row) {
                *out = cast(*value);
            }
        },
    );
    values
}
