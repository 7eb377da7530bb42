//! Runs of cache slots: frozen ones that are shared, and the one that is written.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// Slots that are never written again. Cloning shares the tensors.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// `[1, kv_heads, slots, head_dim]`, possibly a view.
    pub(crate) keys: Tensor,
    /// Like `keys`.
    pub(crate) values: Tensor,
    /// `[kv_heads, slots]`, f32, added to the scores.
    pub(crate) bias: Option<Tensor>,
    /// Logical positions that these slots stand for.
    pub(crate) positions: usize,
    /// Whether slot i is position i, so that the chunk can be cut anywhere.
    pub(crate) exact: bool,
}

impl Chunk {
    pub(crate) fn slots(&self) -> usize {
        self.keys.dims()[2]
    }

    /// `len` slots from `start` on, a view.
    pub(crate) fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(Self {
            keys: self.keys.narrow(2, start, len)?,
            values: self.values.narrow(2, start, len)?,
            bias: self.bias.as_ref().map(|b| b.narrow(1, start, len)).transpose()?,
            positions: if self.exact { len } else { self.positions },
            exact: self.exact,
        })
    }
}

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
        let buffer = || Tensor::zeros((1, kind.heads, capacity, kind.dim), kind.dtype, &kind.device);
        Ok(Self { keys: buffer()?, values: buffer()?, len: 0, shared: AtomicUsize::new(0) })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes room for `more` slots; a full buffer at least doubles.
    pub(crate) fn reserve(&mut self, kind: &SlotKind, more: usize) -> Result<()> {
        let (needed, capacity) = (self.len + more, self.keys.dim(2)?);
        if needed <= capacity {
            return Ok(());
        }
        let mut grown = Self::new(kind, needed.max(2 * capacity))?;
        if self.len > 0 {
            let old = self.view(self.len);
            grown.write(&old.keys, &old.values)?;
        }
        *self = grown;
        Ok(())
    }

    /// Writes keys and values (`[1, kv_heads, tokens, head_dim]`) behind what is there, where room was reserved.
    pub(crate) fn write(&mut self, keys: &Tensor, values: &Tensor) -> Result<()> {
        self.keys.slice_set(&keys.to_dtype(self.keys.dtype())?.contiguous()?, 2, self.len)?;
        self.values.slice_set(&values.to_dtype(self.values.dtype())?.contiguous()?, 2, self.len)?;
        self.len += keys.dim(2)?;
        Ok(())
    }

    /// The first `len` slots as a view for the length of one operation: later writes may change them.
    pub(crate) fn view(&self, len: usize) -> Chunk {
        debug_assert!(len <= self.len);
        let part = |buffer: &Tensor| buffer.narrow(2, 0, len).expect("the filled part of a buffer");
        Chunk { keys: part(&self.keys), values: part(&self.values), bias: None, positions: len, exact: true }
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

/// `n` positions more than the cache holds.
pub(crate) fn not_that_long(n: usize) -> Error {
    Error::cache(format!("{n} positions to drop reach into a part that cannot be cut"))
}
