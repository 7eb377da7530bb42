//! Keys and values of a run of slots: floats, or in few bits.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use lb_am::PackedLayer;
use lb_kernels::{Grids, PackedBits, PackedRows};

use super::chunk::Chunk;
use crate::{Error, Result};

/// Keys and values of a chunk.
#[derive(Debug, Clone)]
pub(crate) enum Slots {
    /// In the cache's dtype.
    Plain {
        /// `[1, kv_heads, slots, head_dim]`, possibly a view; ragged: `[1, 1, rows of all heads, head_dim]`.
        keys: Tensor,
        /// Like `keys`.
        values: Tensor,
    },
    /// In few bits, on the CPU.
    Packed(PackedSlots),
}

impl Slots {
    /// Keys and values `[kv_heads, slots, head_dim]`, or as `[1, rows of all heads, head_dim]`.
    pub(super) fn of_layer(keys: &Tensor, values: &Tensor) -> Result<Self> {
        let tensor = |x: &Tensor| x.contiguous()?.unsqueeze(0);
        Ok(Self::Plain { keys: tensor(keys)?, values: tensor(values)? })
    }
}

/// Some slots of a packed run, or all of them.
#[derive(Debug, Clone)]
pub(crate) struct PackedSlots {
    pub(crate) keys: Arc<PackedRows>,
    pub(crate) values: Arc<PackedRows>,
    /// Which of each head's slots; of a ragged run all.
    pub(crate) range: Range<usize>,
    /// What they unpack to: that of the cache.
    pub(super) dtype: DType,
}

impl PackedSlots {
    pub(super) fn new(layer: &PackedLayer, dtype: DType) -> Self {
        let longest = layer.keys.counts().iter().copied().max().unwrap_or(0);
        Self { keys: layer.keys.clone(), values: layer.values.clone(), range: 0..longest, dtype }
    }

    /// Rows of all heads together.
    pub(super) fn rows(&self) -> usize {
        let within = |count: &usize| self.range.end.min(*count).saturating_sub(self.range.start);
        self.keys.counts().iter().map(within).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes(&self.range) + self.values.bytes(&self.range)
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        let shared = Arc::ptr_eq(&self.keys, &other.keys) && Arc::ptr_eq(&self.values, &other.values);
        shared && self.range == other.range
    }

    pub(super) fn narrow(&self, start: usize, len: usize) -> Self {
        let start = self.range.start + start;
        Self { range: start..start + len, ..self.clone() }
    }

    /// Keys and values as a plain chunk has them.
    fn unpacked(&self, ragged: bool) -> Result<(Tensor, Tensor)> {
        let (heads, rows) = (self.keys.counts().len(), self.rows());
        let tensor = |packed: &PackedRows| -> Result<Tensor> {
            let shape = if ragged { [1, rows] } else { [heads, self.range.len()] };
            let shape = (1, shape[0], shape[1], packed.width());
            let numbers = Tensor::from_vec(packed.unpack(&self.range), shape, &Device::Cpu)?;
            Ok(numbers.to_dtype(self.dtype)?)
        };
        Ok((tensor(&self.keys)?, tensor(&self.values)?))
    }
}

impl Chunk {
    /// Keys and values as tensors, see [`Slots::Plain`]; packed ones are unpacked, all of them at once.
    pub(crate) fn plain(&self) -> Result<(Tensor, Tensor)> {
        match &self.kv {
            Slots::Plain { keys, values } => Ok((keys.clone(), values.clone())),
            Slots::Packed(packed) => packed.unpacked(self.counts.is_some()),
        }
    }

    /// The same with plain slots.
    pub(crate) fn unpacked(&self) -> Result<Self> {
        let (keys, values) = self.plain()?;
        Ok(Self { kv: Slots::Plain { keys, values }, ..self.clone() })
    }

    /// Those of keys and values as tensors, whether they are or not.
    pub(crate) fn shapes(&self) -> [Shape; 2] {
        match &self.kv {
            Slots::Plain { keys, values } => [keys.shape().clone(), values.shape().clone()],
            Slots::Packed(PackedSlots { keys, values, range, .. }) => {
                [keys, values].map(|rows| (1, rows.counts().len(), range.len(), rows.width()).into())
            }
        }
    }

    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.kv, Slots::Packed(_))
    }

    /// The same in few bits.
    pub(crate) fn packed(&self, bits: PackedBits, dtype: DType) -> Result<Self> {
        if self.is_packed() {
            return Err(Error::cache("slots are packed already, and packing them again would lose more"));
        }
        let (keys, values) = self.padded()?.plain()?;
        let counts: Vec<usize> = (0..keys.dim(1)?).map(|head| self.head_slots(head)).collect();
        let pack = |x: &Tensor, grids| PackedRows::from_tensor(&x.squeeze(0)?, &counts, grids, bits);
        let (keys, values) = (pack(&keys, Grids::PerChannel)?, pack(&values, Grids::PerRow)?);
        let layer = PackedLayer { keys: keys.into(), values: values.into() };
        Ok(Self { kv: Slots::Packed(PackedSlots::new(&layer, dtype)), ..self.clone() })
    }
}
