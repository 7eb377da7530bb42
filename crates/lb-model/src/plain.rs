//! f32 tensors on the CPU as slices: what this crate's own operations between the products read and write.

use std::cell::Cell;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, StorageRef, Tensor};
use rayon::prelude::*;

use crate::Result;

/// Numbers that one thread takes at a time; for fewer in all, a second one costs more than it brings.
const PIECE: usize = 1 << 15;

/// Whether this crate's own operations take the tensor.
pub(crate) fn is_plain(x: &Tensor) -> bool {
    x.dtype() == DType::F32 && x.device().is_cpu()
}

/// A tensor held for reading; writers wait until it is dropped.
pub(crate) struct Reading<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

/// The numbers of a plain, contiguous tensor.
pub(crate) fn read(x: &Tensor) -> Result<Reading<'_>> {
    let (storage, layout) = x.storage_and_layout();
    let Some((from, to)) = layout.contiguous_offsets() else {
        return Err(candle_core::Error::RequiresContiguous { op: "read" }.into());
    };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(Reading { storage, range: from..to }),
        _ => Err(candle_core::Error::Msg("not f32 on the CPU".into()).into()),
    }
}

impl Deref for Reading<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.range.clone()],
            _ => &[],
        }
    }
}

/// The numbers of a plain tensor that nobody else will read, by a view of it neither: nothing is left there.
#[allow(clippy::needless_pass_by_value, reason = "nothing is left of it")]
pub(crate) fn numbers_of(x: Tensor) -> Result<Vec<f32>> {
    match whole(&x)? {
        Some(numbers) => Ok(numbers),
        None => Ok(x.flatten_all()?.to_vec1()?),
    }
}

/// The same without a copy; `None` for a part of a larger tensor, or one in another order.
pub(crate) fn whole(x: &Tensor) -> Result<Option<Vec<f32>>> {
    if !x.is_contiguous() {
        return Ok(None);
    }
    let taken = Taken(Cell::new(None));
    x.inplace_op1(&taken)?;
    Ok(taken.0.take())
}

/// A tensor of these numbers.
pub(crate) fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(numbers, shape.into(), &Device::Cpu)?)
}

/// `write` gets the rows of `out` in pieces, each with the number of its first row.
pub(crate) fn by_rows(out: &mut [f32], width: usize, write: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() <= PIECE || width == 0 {
        return write(0, out);
    }
    let rows = PIECE.div_ceil(width);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(piece, out)| write(piece * rows, out));
}

/// The same for two slices of the same rows.
pub(crate) fn by_rows_of_both(
    x: &mut [f32],
    y: &mut [f32],
    width: usize,
    write: impl Fn(&mut [f32], &mut [f32]) + Sync,
) {
    if x.len() <= PIECE || width == 0 {
        return write(x, y);
    }
    let piece = PIECE.div_ceil(width) * width;
    x.par_chunks_mut(piece).zip(y.par_chunks_mut(piece)).for_each(|(x, y)| write(x, y));
}

/// `x + y`; nobody else reads `x` any more.
pub(crate) fn plus(x: Tensor, y: &Tensor) -> Result<Tensor> {
    if !is_plain(&x) || !is_plain(y) || x.dims() != y.dims() || !y.is_contiguous() {
        return Ok((x + y)?);
    }
    let (shape, mut numbers) = (x.shape().clone(), numbers_of(x)?);
    let y = read(y)?;
    by_rows(&mut numbers, 1, |first, x| {
        x.iter_mut().zip(&y[first..]).for_each(|(x, y)| *x += y);
    });
    tensor(numbers, shape)
}

/// A row added to each of `x`, `[rows, columns]`; nobody else reads `x` any more.
pub(crate) fn plus_row(x: Tensor, row: &Tensor) -> Result<Tensor> {
    if !is_plain(&x) || !is_plain(row) || x.dims().last() != row.dims().last() || !row.is_contiguous() {
        return Ok(x.broadcast_add(row)?);
    }
    let (shape, mut numbers) = (x.shape().clone(), numbers_of(x)?);
    let row = read(row)?;
    by_rows(&mut numbers, row.len(), |_, x| {
        for x in x.chunks_exact_mut(row.len()) {
            x.iter_mut().zip(&*row).for_each(|(x, y)| *x += y);
        }
    });
    tensor(numbers, shape)
}

/// Takes the whole of a storage.
struct Taken(Cell<Option<Vec<f32>>>);

impl InplaceOp1 for Taken {
    fn name(&self) -> &'static str {
        "take-numbers"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if let CpuStorage::F32(numbers) = storage
            && numbers.len() == layout.shape().elem_count()
        {
            self.0.set(Some(std::mem::take(numbers)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{numbers_of, read, tensor};

    #[test]
    fn numbers_are_those_of_the_tensor() -> crate::Result<()> {
        let x = Tensor::arange(0f32, 24.0, &Device::Cpu)?.reshape((2, 3, 4))?;
        let all = x.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(*read(&x)?, all[..]);
        assert_eq!(*read(&x.narrow(0, 1, 1)?)?, all[12..]);
        assert!(read(&x.narrow(1, 1, 1)?).is_err());
        assert!(read(&x.to_dtype(candle_core::DType::F64)?).is_err());
        // A part is copied, and so is what lies in another order; a whole is taken.
        assert_eq!(numbers_of(x.narrow(0, 1, 1)?)?, all[12..]);
        assert_eq!(numbers_of(x.transpose(0, 2)?)?[..3], [0.0, 12.0, 4.0]);
        assert_eq!(*read(&x)?, all[..]);
        assert_eq!(numbers_of(x)?, all);
        assert_eq!(tensor(all.clone(), (6, 4))?.flatten_all()?.to_vec1::<f32>()?, all);
        Ok(())
    }
}
