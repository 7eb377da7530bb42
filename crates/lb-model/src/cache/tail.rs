//! The run of cache slots that is written.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Shape, Tensor};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};

use super::chunk::Chunk;
use super::slots::Slots;
use super::store::store;
use crate::Result;

/// What the slots of a layer are made of.
#[derive(Debug, Clone)]
pub(crate) struct SlotKind {
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
}

/// Slots at the end of a layer that grow in place.
///
/// A fork sees the first slots of the buffer as a frozen view, so those below `shared` are never written again.
#[derive(Debug)]
pub(crate) struct Tail {
    /// `[1, kv_heads, capacity, head_dim]`.
    keys: Tensor,
    values: Tensor,
    len: usize,
    shared: AtomicUsize,
}

impl Tail {
    /// An empty tail with room for `capacity` slots.
    pub(crate) fn new(kind: &SlotKind, capacity: usize) -> Result<Self> {
        let buffer = || zeros((1, kind.heads, capacity, kind.dim).into(), kind.dtype, &kind.device);
        Ok(Self { keys: buffer()?, values: buffer()?, len: 0, shared: AtomicUsize::new(0) })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether `more` slots need no larger buffer.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.len + more <= self.keys.dims()[2]
    }

    /// Makes room for `more` slots; a full buffer at least doubles.
    pub(crate) fn reserve(&mut self, kind: &SlotKind, more: usize) -> Result<()> {
        if self.has_room(more) {
            return Ok(());
        }
        let (needed, capacity) = (self.len + more, self.keys.dim(2)?);
        let mut grown = Self::new(kind, needed.max(2 * capacity))?;
        if self.len > 0 {
            let old = self.view(self.len).plain()?;
            grown.write(&old.0, &old.1)?;
        }
        *self = grown;
        Ok(())
    }

    /// Writes keys and values (`[1, kv_heads, tokens, head_dim]`) behind what is there, where room was reserved.
    pub(crate) fn write(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        let shared = *self.shared.get_mut() > 0;
        store(&self.keys, keys, self.len, shared)?;
        store(&self.values, values, self.len, shared)?;
        self.len += keys.dim(2)?;
        Ok(())
    }

    /// The first `len` slots as a view for the length of one operation: later writes may change them.
    pub(crate) fn view(&self, len: usize) -> Chunk {
        debug_assert!(len <= self.len);
        let part = |buffer: &Tensor| buffer.narrow(2, 0, len).expect("the filled part of a buffer");
        Chunk {
            kv: Slots::Plain { keys: part(&self.keys), values: part(&self.values) },
            bias: None,
            counts: None,
            positions: len,
            exact: true,
            places: None,
        }
    }

    /// The first `len` slots as a view that stays valid: they are never written again.
    pub(crate) fn frozen(&self, len: usize) -> Chunk {
        self.shared.fetch_max(len, Ordering::Relaxed);
        self.view(len)
    }

    /// Forgets the slots from `len` on, or says that a view still needs some of them.
    pub(crate) fn shrink(&mut self, len: usize) -> bool {
        let free = len >= self.shared.load(Ordering::Relaxed);
        if free {
            self.len = len;
        }
        free
    }
}

/// Zeros; on the CPU in pages that the system gives when they are first written, in 16 bits as well.
fn zeros(shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    let bits = || vec![0u16; shape.elem_count()];
    Ok(match (device, dtype) {
        (Device::Cpu, DType::BF16) => {
            Tensor::from_vec::<_, bf16>(bits().reinterpret_into(), shape.clone(), device)?
        }
        (Device::Cpu, DType::F16) => {
            Tensor::from_vec::<_, f16>(bits().reinterpret_into(), shape.clone(), device)?
        }
        _ => Tensor::zeros(shape, dtype, device)?,
    })
}
