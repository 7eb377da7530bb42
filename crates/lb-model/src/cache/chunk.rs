//! Runs of cache slots: frozen ones that are shared, and the one that is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Shape, Tensor};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use lb_am::{CompactedLayer, LayerKv};

use super::store::store;
use crate::{Error, Result};

/// Slots that are never written again. Cloning shares the tensors.
///
/// As a rule all heads have the same slots. Where a compaction left them different counts the chunk is ragged: the
/// rows of all heads lie behind one another, head by head, and nothing fills up the shorter ones.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// `[1, kv_heads, slots, head_dim]`, possibly a view; ragged: `[1, 1, rows of all heads, head_dim]`.
    pub(crate) keys: Tensor,
    /// Like `keys`.
    pub(crate) values: Tensor,
    /// `[kv_heads, slots]`, f32, added to the scores; ragged: `[1, rows of all heads]`.
    pub(crate) bias: Option<Tensor>,
    /// Rows of each head of a ragged chunk.
    pub(crate) counts: Option<Arc<[usize]>>,
    /// Logical positions that these slots stand for.
    pub(crate) positions: usize,
    /// Whether slot i is position i, so that the chunk can be cut anywhere.
    pub(crate) exact: bool,
    /// Which of the positions the slots are, ascending, in a layer with a window where they are not all.
    pub(crate) places: Option<Arc<[u32]>>,
}

impl Chunk {
    /// A layer that stands for `positions`.
    pub(crate) fn of_layer(layer: &LayerKv, positions: usize) -> Result<Self> {
        Ok(Self {
            keys: layer.keys.contiguous()?.unsqueeze(0)?,
            values: layer.values.contiguous()?.unsqueeze(0)?,
            bias: layer.bias.as_ref().map(Tensor::contiguous).transpose()?,
            counts: None,
            positions,
            exact: layer.seq_len() == positions,
            places: None,
        })
    }

    /// Slots of a layer with a window that stand for some of `positions`, biases left out.
    pub(crate) fn of_places(layer: &CompactedLayer, positions: usize) -> Result<Self> {
        let places = layer.kept.head(0);
        let exact = places.len() == positions;
        Ok(Self {
            keys: layer.keys.contiguous()?.unsqueeze(0)?,
            values: layer.values.contiguous()?.unsqueeze(0)?,
            bias: None,
            counts: None,
            positions,
            exact,
            places: (!exact).then(|| places.into()),
        })
    }

    /// A compacted layer that stands for `positions`. What never takes mass (a bias of −∞, which fills up heads that
    /// keep fewer slots than others) is left out; without such slots nothing is copied.
    pub(crate) fn compacted(layer: &CompactedLayer, positions: usize) -> Result<Self> {
        let exact = layer.keys.dim(1)? == positions;
        let (keys, values) = (layer.keys.contiguous()?, layer.values.contiguous()?);
        let bias = layer.bias.contiguous()?;
        let live: Vec<Vec<u32>> = bias.to_vec2::<f32>()?.iter().map(|head| live_slots(head)).collect();
        let counts: Arc<[usize]> = live.iter().map(Vec::len).collect();
        if counts.iter().all(|count| *count == keys.dims()[1]) {
            let (keys, values) = (keys.unsqueeze(0)?, values.unsqueeze(0)?);
            let (bias, counts, places) = (Some(bias), None, None);
            return Ok(Self { keys, values, bias, counts, positions, exact, places });
        }
        let slots = keys.dims()[1];
        let rows: Vec<u32> = (0u32..)
            .zip(&live)
            .flat_map(|(head, list)| list.iter().map(move |j| head * slots as u32 + j))
            .collect();
        let rows = Tensor::new(rows, keys.device())?;
        let pick = |t: &Tensor| -> Result<Tensor> { Ok(t.flatten(0, 1)?.index_select(&rows, 0)?) };
        Ok(Self {
            keys: pick(&keys)?.unsqueeze(0)?.unsqueeze(0)?,
            values: pick(&values)?.unsqueeze(0)?.unsqueeze(0)?,
            bias: Some(pick(&bias)?.unsqueeze(0)?),
            counts: Some(counts),
            positions,
            exact: false,
            places: None,
        })
    }

    /// Slots; where heads differ, of the one that has the most.
    pub(crate) fn slots(&self) -> usize {
        match &self.counts {
            Some(counts) => counts.iter().copied().max().unwrap_or(0),
            None => self.keys.dims()[2],
        }
    }

    /// The position of a slot, from the chunk's first on.
    pub(crate) fn place(&self, slot: usize) -> usize {
        self.places.as_ref().map_or(slot, |places| places[slot] as usize)
    }

    /// How many slots lie before `position`, counted from the chunk's first.
    pub(crate) fn slots_before(&self, position: usize) -> usize {
        let before = |place: &u32| (*place as usize) < position;
        self.places.as_ref().map_or(position.min(self.slots()), |places| places.partition_point(before))
    }

    /// Rows of all heads together.
    pub(crate) fn rows(&self) -> usize {
        self.keys.dims()[1] * self.keys.dims()[2]
    }

    /// Slots of one head.
    pub(crate) fn head_slots(&self, head: usize) -> usize {
        self.counts.as_ref().map_or_else(|| self.slots(), |counts| counts[head])
    }

    /// Whether both are the same slots in the same memory, as those that forks of one cache share.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let same_bias = match (&self.bias, &other.bias) {
            (None, None) => true,
            (Some(a), Some(b)) => same_memory(a, b),
            _ => false,
        };
        same_bias
            && self.counts == other.counts
            && same_memory(&self.keys, &other.keys)
            && same_memory(&self.values, &other.values)
    }

    /// The rows of one head as a chunk of a single head, a view.
    pub(crate) fn head(&self, head: usize) -> Result<Self> {
        let Some(counts) = &self.counts else {
            return Ok(Self {
                keys: self.keys.narrow(1, head, 1)?,
                values: self.values.narrow(1, head, 1)?,
                bias: self.bias.as_ref().map(|b| b.narrow(0, head, 1)).transpose()?,
                ..self.clone()
            });
        };
        let (start, len) = (counts[..head].iter().sum(), counts[head]);
        Ok(Self {
            keys: self.keys.narrow(2, start, len)?,
            values: self.values.narrow(2, start, len)?,
            bias: self.bias.as_ref().map(|b| b.narrow(1, start, len)).transpose()?,
            counts: None,
            ..self.clone()
        })
    }

    /// The same with all heads at one length, as a compaction takes it: zeros with a bias of −∞ fill up the shorter.
    fn padded(&self) -> Result<Self> {
        let Some(counts) = &self.counts else { return Ok(self.clone()) };
        let slots = self.slots();
        let (mut keys, mut values, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        for (index, count) in counts.iter().enumerate() {
            let (head, missing) = (self.head(index)?, slots - count);
            keys.push(head.keys.pad_with_zeros(2, 0, missing)?);
            values.push(head.values.pad_with_zeros(2, 0, missing)?);
            let device = self.keys.device();
            let live = head.bias.map_or_else(|| Tensor::zeros((1, *count), DType::F32, device), Ok)?;
            biases.push(if missing == 0 {
                live
            } else {
                Tensor::cat(&[live, Tensor::full(f32::NEG_INFINITY, (1, missing), device)?], 1)?
            });
        }
        Ok(Self {
            keys: Tensor::cat(&keys, 1)?,
            values: Tensor::cat(&values, 1)?,
            bias: Some(Tensor::cat(&biases, 0)?),
            counts: None,
            ..self.clone()
        })
    }

    /// `len` slots from `start` on, a view; of a ragged chunk, a copy with all heads at one length.
    pub(crate) fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        if self.counts.is_some() {
            return self.padded()?.narrow(start, len);
        }
        Ok(Self {
            counts: None,
            keys: self.keys.narrow(2, start, len)?,
            values: self.values.narrow(2, start, len)?,
            bias: self.bias.as_ref().map(|b| b.narrow(1, start, len)).transpose()?,
            positions: if self.exact { len } else { self.positions },
            exact: self.exact,
            places: self.places.as_ref().map(|places| places[start..start + len].into()),
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
            let old = self.view(self.len);
            grown.write(&old.keys, &old.values)?;
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
            keys: part(&self.keys),
            values: part(&self.values),
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

/// Whether two tensors are the same numbers in the same place.
fn same_memory(a: &Tensor, b: &Tensor) -> bool {
    // One lock at a time: a second one would wait behind a writer that waits for the first.
    let place = |t: &Tensor| std::ptr::from_ref(&*t.storage_and_layout().0).addr();
    let alike = a.layout().start_offset() == b.layout().start_offset() && a.stride() == b.stride();
    alike && a.dims() == b.dims() && place(a) == place(b)
}

/// The slots of a head that can take mass.
fn live_slots(bias: &[f32]) -> Vec<u32> {
    (0u32..).zip(bias).filter(|(_, b)| **b != f32::NEG_INFINITY).map(|(slot, _)| slot).collect()
}

/// `n` positions more than the cache holds.
pub(crate) fn not_that_long(n: usize) -> Error {
    Error::cache(format!("{n} positions to drop reach into a part that cannot be cut"))
}
