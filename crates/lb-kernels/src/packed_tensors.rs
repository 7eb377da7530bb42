//! Packed rows from tensors, and back.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::cpu_tensors::{CpuTensors, contiguous_heads};
use super::error::{Error, Result};
use super::packed_rows::{Grids, PackedBits, PackedRows};

impl PackedRows {
    /// Packs the first `counts[head]` rows of each head; see [`pack`](Self::pack).
    ///
    /// # Shapes
    ///
    /// `tensor` is `[heads, rows, width]`.
    ///
    /// # Numerics
    ///
    /// Those of [`pack`](Self::pack). A tensor that is not on the CPU is copied there first.
    ///
    /// # Errors
    ///
    /// Those of [`pack`](Self::pack); [`Error::Packed`] for other counts than the tensor has heads and rows.
    pub fn from_tensor(tensor: &Tensor, counts: &[usize], grids: Grids, bits: PackedBits) -> Result<Self> {
        let (heads, rows, width) = tensor.dims3()?;
        if counts.len() != heads {
            return Err(Error::Packed { what: "counts", expected: heads, got: counts.len() });
        }
        if let Some(more) = counts.iter().find(|count| **count > rows) {
            return Err(Error::Packed { what: "a count", expected: rows, got: *more });
        }
        let tensor = contiguous_heads(&tensor.to_device(&Device::Cpu)?)?;
        let held = CpuTensors::new(&[&tensor])?;
        let mut wide = vec![Vec::new(); heads];
        let slices = wide
            .iter_mut()
            .zip(counts)
            .enumerate()
            .map(|(head, (wide, count))| Ok(held.head(0, head)?.range(0, count * width).as_f32(wide)))
            .collect::<Result<Vec<_>>>()?;
        Self::pack(&slices, width, grids, bits)
    }

    /// Some rows of each head.
    ///
    /// # Shapes
    ///
    /// Returns `[heads, rows, width]`; zeros fill up a head that has fewer.
    ///
    /// # Numerics
    ///
    /// Unpacked in f32, then rounded to `dtype`.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`].
    pub fn to_tensor(&self, rows: &Range<usize>, dtype: DType, device: &Device) -> Result<Tensor> {
        let (heads, width) = (self.counts().len(), self.width());
        let flat = self.unpack(rows);
        let each = rows.len() * width;
        let even = flat.len() == heads * each;
        let all = if even {
            flat
        } else {
            let (mut all, mut from) = (vec![0.0; heads * each], 0);
            for (head, count) in self.counts().iter().enumerate() {
                let live = rows.end.min(*count).saturating_sub(rows.start) * width;
                all[head * each..head * each + live].copy_from_slice(&flat[from..from + live]);
                from += live;
            }
            all
        };
        let tensor = Tensor::from_vec(all, (heads, rows.len(), width), &Device::Cpu)?;
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }
}
