//! Tensors of the CPU as the slices that kernels read.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::kernel::Numbers;

/// A tensor `[heads, rows, columns]` whose heads are contiguous, and may lie apart.
pub(crate) struct Plain(Tensor);

/// The same, held for reading.
pub(crate) struct Held<'a> {
    storage: Box<dyn Deref<Target = Storage> + Sync + 'a>,
    start: usize,
    head_step: usize,
    head_len: usize,
}

impl Plain {
    /// Copies only what has holes within a head.
    pub(crate) fn new(tensor: &Tensor) -> Result<Self> {
        let (_, _, columns) = tensor.dims3()?;
        let whole = matches!(tensor.stride(), &[_, row, 1] if row == columns);
        Ok(Self(if whole { tensor.clone() } else { tensor.contiguous()? }))
    }

    /// Writers wait until it is dropped.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        let (storage, layout) = self.0.storage_and_layout();
        let (_, rows, columns) = layout.shape().dims3()?;
        Ok(Held {
            storage: Box::new(storage),
            start: layout.start_offset(),
            head_step: layout.stride()[0],
            head_len: rows * columns,
        })
    }
}

impl Held<'_> {
    /// The numbers of one head.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] off the CPU, and for a dtype that no cache has.
    pub(crate) fn head(&self, head: usize) -> Result<Numbers<'_>> {
        let start = self.start + head * self.head_step;
        let range = start..start + self.head_len;
        let Storage::Cpu(storage) = &**self.storage else {
            return Err(Error::Tensor(candle_core::Error::Msg("not on the CPU".into())));
        };
        Ok(match storage {
            CpuStorage::F32(x) => Numbers::F32(&x[range]),
            CpuStorage::BF16(x) => Numbers::Bf16(&x[range]),
            CpuStorage::F16(x) => Numbers::F16(&x[range]),
            _ => return Err(Error::Tensor(candle_core::Error::Msg("not a dtype of caches".into()))),
        })
    }
}

/// The kept rows of `[heads, rows, columns]`, copied bit for bit; zeros fill up a head that keeps fewer than another.
pub(crate) fn gather(tensor: &Tensor, kept: &Kept) -> Result<Tensor> {
    let (heads, _, columns) = tensor.dims3()?;
    let plain = Plain::new(tensor)?;
    let held = plain.hold()?;
    let t = kept.max_len();
    let numbers = (0..heads).map(|head| held.head(head)).collect::<Result<Vec<_>>>()?;
    let shape = (heads, t, columns);
    Ok(match numbers[0] {
        Numbers::F32(_) => rows::<f32>(&numbers, kept, shape)?,
        Numbers::Bf16(_) => rows::<bf16>(&numbers, kept, shape)?,
        Numbers::F16(_) => rows::<f16>(&numbers, kept, shape)?,
    })
}

/// Heads of f32 numbers as `[heads, rows, columns]` in a dtype of caches; zeros fill up a head that has fewer.
pub(crate) fn stacked(heads: &[&[f32]], shape: (usize, usize, usize), dtype: DType) -> Result<Tensor> {
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
pub(crate) fn round_to(dtype: DType, numbers: &mut [f32]) {
    match dtype {
        DType::BF16 => numbers.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        DType::F16 => numbers.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        _ => {}
    }
}

/// A dtype of caches.
trait Cached: WithDType + Default {
    fn of(numbers: Numbers<'_>) -> &[Self];

    /// To as many numbers.
    fn round(from: &[f32], to: &mut [Self]);
}

impl Cached for f32 {
    fn of(numbers: Numbers<'_>) -> &[Self] {
        if let Numbers::F32(x) = numbers { x } else { &[] }
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to[..from.len()].copy_from_slice(from);
    }
}

impl Cached for bf16 {
    fn of(numbers: Numbers<'_>) -> &[Self] {
        if let Numbers::Bf16(x) = numbers { x } else { &[] }
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to[..from.len()].convert_from_f32_slice(from);
    }
}

impl Cached for f16 {
    fn of(numbers: Numbers<'_>) -> &[Self] {
        if let Numbers::F16(x) = numbers { x } else { &[] }
    }

    fn round(from: &[f32], to: &mut [Self]) {
        to[..from.len()].convert_from_f32_slice(from);
    }
}

fn rows<T: Cached>(heads: &[Numbers<'_>], kept: &Kept, shape: (usize, usize, usize)) -> Result<Tensor> {
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
