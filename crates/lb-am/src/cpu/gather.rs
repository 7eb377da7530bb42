//! Kept rows of a cache, and heads of numbers put together.

use candle_core::{DType, Device, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use lb_kernels::{CpuTensors, FloatSlice, contiguous_heads};
use rayon::prelude::*;

use crate::error::Result;
use crate::kept::Kept;

/// The kept rows of `[heads, rows, columns]` or `[heads, rows]`, copied bit for bit; zeros fill up a head that keeps fewer than another.
pub(super) fn gather(tensor: &Tensor, kept: &Kept) -> Result<Tensor> {
    if tensor.rank() == 2 {
        return Ok(gather(&tensor.unsqueeze(2)?, kept)?.squeeze(2)?);
    }
    let (heads, _, columns) = tensor.dims3()?;
    let tensor = contiguous_heads(tensor)?;
    let held = CpuTensors::new(&[&tensor])?;
    let t = kept.max_len();
    let numbers = (0..heads).map(|head| held.head(0, head)).collect::<lb_kernels::Result<Vec<_>>>()?;
    let shape = (heads, t, columns);
    Ok(match numbers[0] {
        FloatSlice::F32(_) => rows::<f32>(&numbers, kept, shape)?,
        FloatSlice::Bf16(_) => rows::<bf16>(&numbers, kept, shape)?,
        FloatSlice::F16(_) => rows::<f16>(&numbers, kept, shape)?,
    })
}

/// Heads of f32 numbers as `[heads, rows, columns]` in a dtype of caches; zeros fill up a head that has fewer.
pub(super) fn stacked(heads: &[&[f32]], shape: (usize, usize, usize), dtype: DType) -> Result<Tensor> {
    match dtype {
        DType::BF16 => stack::<bf16>(heads, shape),
        DType::F16 => stack::<f16>(heads, shape),
        _ => stack::<f32>(heads, shape),
    }
}

fn stack<T: Cached>(heads: &[&[f32]], shape: (usize, usize, usize)) -> Result<Tensor> {
    let (_, t, columns) = shape;
    let mut out = vec![T::default(); heads.len() * t * columns];
    out.par_chunks_mut((t * columns).max(1)).zip(heads).for_each(|(out, head)| T::round(head, out));
    Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
}

/// Rounds f32 numbers to what a dtype of caches can hold.
pub(super) fn round_to(dtype: DType, numbers: &mut [f32]) {
    match dtype {
        DType::BF16 => numbers.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        DType::F16 => numbers.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        _ => {}
    }
}

/// A dtype of caches.
trait Cached: WithDType + Default {
    fn of(numbers: FloatSlice<'_>) -> &[Self];

    /// To as many numbers.
    fn round(from: &[f32], to: &mut [Self]);
}

impl Cached for f32 {
    fn of(numbers: FloatSlice<'_>) -> &[Self] {
        if let FloatSlice::F32(x) = numbers { x } else { &[] }
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to[..from.len()].copy_from_slice(from);
    }
}

impl Cached for bf16 {
    fn of(numbers: FloatSlice<'_>) -> &[Self] {
        if let FloatSlice::Bf16(x) = numbers { x } else { &[] }
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to[..from.len()].convert_from_f32_slice(from);
    }
}

impl Cached for f16 {
    fn of(numbers: FloatSlice<'_>) -> &[Self] {
        if let FloatSlice::F16(x) = numbers { x } else { &[] }
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to[..from.len()].convert_from_f32_slice(from);
    }
}

fn rows<T: Cached>(heads: &[FloatSlice<'_>], kept: &Kept, shape: (usize, usize, usize)) -> Result<Tensor> {
    let (_, t, columns) = shape;
    let mut out = vec![T::default(); heads.len() * t * columns];
    out.par_chunks_mut((t * columns).max(1)).enumerate().for_each(|(index, out)| {
        let from = T::of(heads[index]);
        for (slot, out) in kept.head(index).iter().zip(out.chunks_exact_mut(columns)) {
            out.copy_from_slice(&from[*slot as usize * columns..][..columns]);
        }
    });
    Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
}
