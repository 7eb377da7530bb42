//! Tensors of the CPU as the slices that kernels read.

use std::ops::{Deref, Range};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Storage, Tensor};

use super::FloatSlice;
use super::error::{Error, Result};

/// Tensors `[heads, rows, columns]`, held for reading: writers wait until this is dropped.
///
/// The rows of a head must lie behind one another; heads may lie apart, as in a view of the first slots of a cache.
pub struct CpuTensors<'a> {
    storages: Vec<Box<dyn Deref<Target = Storage> + Sync + 'a>>,
    places: Vec<Place>,
}

/// Where a tensor's numbers are.
struct Place {
    storage: usize,
    start: usize,
    head_step: usize,
    head_len: usize,
}

impl<'a> CpuTensors<'a> {
    /// Holds tensors. One that others share memory with is locked once, so that no writer can come in between.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] for another rank, [`Error::Strided`] for rows that do not lie behind one another.
    pub fn new(tensors: &[&'a Tensor]) -> Result<Self> {
        // One lock at a time while looking for what is shared.
        let address = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0).addr();
        let mut addresses = Vec::new();
        let mut held = Self { storages: Vec::new(), places: Vec::new() };
        let mut owners: Vec<&'a Tensor> = Vec::new();
        for tensor in tensors {
            let own = address(tensor);
            let storage = addresses.iter().position(|other| *other == own).unwrap_or_else(|| {
                addresses.push(own);
                owners.push(tensor);
                owners.len() - 1
            });
            let (_, rows, columns) = tensor.dims3()?;
            if !is_packed(tensor) {
                return Err(Error::Strided {
                    shape: tensor.dims().to_vec(),
                    stride: tensor.stride().to_vec(),
                });
            }
            let head_step = tensor.stride()[0];
            let (start, head_len) = (tensor.layout().start_offset(), rows * columns);
            held.places.push(Place { storage, start, head_step, head_len });
        }
        for owner in owners {
            held.storages.push(Box::new(owner.storage_and_layout().0));
        }
        Ok(held)
    }

    /// The numbers of one head of the tensor at `index`.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] off the CPU, [`Error::Dtype`] for a dtype that no cache has.
    pub fn head(&self, index: usize, head: usize) -> Result<FloatSlice<'_>> {
        let place = &self.places[index];
        let start = place.start + head * place.head_step;
        numbers(&self.storages[place.storage], start..start + place.head_len)
    }
}

fn numbers(storage: &Storage, range: Range<usize>) -> Result<FloatSlice<'_>> {
    let Storage::Cpu(storage) = storage else { return Err(Error::Device) };
    Ok(match storage {
        CpuStorage::F32(x) => FloatSlice::F32(&x[range]),
        CpuStorage::BF16(x) => FloatSlice::Bf16(&x[range]),
        CpuStorage::F16(x) => FloatSlice::F16(&x[range]),
        other => return Err(Error::Dtype(other.dtype())),
    })
}

/// The tensor itself where [`CpuTensors`] can hold it, else a copy.
///
/// # Errors
///
/// [`Error::Tensor`] where it is not three-dimensional or cannot be copied.
pub fn contiguous_heads(tensor: &Tensor) -> Result<Tensor> {
    tensor.dims3()?;
    Ok(if is_packed(tensor) { tensor.clone() } else { tensor.contiguous()? })
}

/// Whether the rows of each head of a three-dimensional tensor lie behind one another.
fn is_packed(tensor: &Tensor) -> bool {
    match (tensor.dims(), tensor.stride()) {
        (&[_, rows, columns], &[_, row_step, column_step]) => {
            (row_step == columns || rows == 1) && (column_step == 1 || columns == 1)
        }
        _ => false,
    }
}
