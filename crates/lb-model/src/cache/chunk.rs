//! Runs of cache slots that are shared and never written again.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lb_am::{CompactedLayer, LayerKv, PackedLayer};
use lb_kernels::PackedRows;

use super::slots::{PackedSlots, Slots};
use crate::{Error, Result};

/// Slots that are never written again. Cloning shares the tensors.
///
/// As a rule all heads have the same slots. Where a compaction left them different counts the chunk is ragged: the
/// rows of all heads lie behind one another, head by head, and nothing fills up the shorter ones.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) kv: Slots,
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
            kv: Slots::of_layer(&layer.keys, &layer.values)?,
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
            kv: Slots::of_layer(&layer.keys, &layer.values)?,
            bias: None,
            counts: None,
            positions,
            exact,
            places: (!exact).then(|| places.into()),
        })
    }

    /// A compacted layer that stands for `positions`. What never takes mass (a bias of −∞, which fills up heads that
    /// keep fewer slots than others) is left out; without such slots nothing is copied. A packed layer stays packed.
    pub(crate) fn compacted(layer: &CompactedLayer, positions: usize) -> Result<Self> {
        if let Some(packed) = &layer.packed {
            return Self::of_packed(layer, packed, positions);
        }
        let exact = layer.keys.dim(1)? == positions;
        let (keys, values) = (layer.keys.contiguous()?, layer.values.contiguous()?);
        let bias = layer.bias.contiguous()?;
        let live: Vec<Vec<u32>> = bias.to_vec2::<f32>()?.iter().map(|head| live_slots(head)).collect();
        let counts: Arc<[usize]> = live.iter().map(Vec::len).collect();
        if counts.iter().all(|count| *count == keys.dims()[1]) {
            let kv = Slots::of_layer(&keys, &values)?;
            let (bias, counts, places) = (Some(bias), None, None);
            return Ok(Self { kv, bias, counts, positions, exact, places });
        }
        let slots = keys.dims()[1];
        let rows: Vec<u32> = (0u32..)
            .zip(&live)
            .flat_map(|(head, list)| list.iter().map(move |j| head * slots as u32 + j))
            .collect();
        let rows = Tensor::new(rows, keys.device())?;
        let pick = |t: &Tensor| -> Result<Tensor> { Ok(t.flatten(0, 1)?.index_select(&rows, 0)?) };
        Ok(Self {
            kv: Slots::of_layer(&pick(&keys)?.unsqueeze(0)?, &pick(&values)?.unsqueeze(0)?)?,
            bias: Some(pick(&bias)?.unsqueeze(0)?),
            counts: Some(counts),
            positions,
            exact: false,
            places: None,
        })
    }

    /// The slots of a packed layer with the biases that are theirs.
    fn of_packed(layer: &CompactedLayer, packed: &PackedLayer, positions: usize) -> Result<Self> {
        let (heads, slots, width) = layer.keys.dims3()?;
        let counts = packed.keys.counts();
        let fits = |rows: &PackedRows| rows.width() == width && rows.counts() == counts;
        let longest = counts.iter().copied().max();
        if counts.len() != heads || longest != Some(slots) || !fits(&packed.keys) || !fits(&packed.values) {
            let reason = format!("packed slots {counts:?} of a layer of {heads} heads and {slots} slots");
            return Err(Error::cache(reason));
        }
        if !layer.keys.device().is_cpu() {
            return Err(Error::cache("packed slots are for the CPU"));
        }
        let kv = Slots::Packed(PackedSlots::new(packed, layer.keys.dtype()));
        let places = None;
        if counts.iter().all(|count| *count == slots) {
            let (bias, exact) = (Some(layer.bias.contiguous()?), slots == positions);
            return Ok(Self { kv, bias, counts: None, positions, exact, places });
        }
        let by_head = layer.bias.to_vec2::<f32>()?;
        let live: Vec<f32> = by_head.iter().zip(counts).flat_map(|(b, n)| b[..*n].to_vec()).collect();
        let rows = live.len();
        let bias = Some(Tensor::from_vec(live, (1, rows), &Device::Cpu)?);
        let counts = Some(counts.into());
        Ok(Self { kv, bias, counts, positions, exact: false, places })
    }

    /// Slots; where heads differ, of the one that has the most.
    pub(crate) fn slots(&self) -> usize {
        match (&self.counts, &self.kv) {
            (Some(counts), _) => counts.iter().copied().max().unwrap_or(0),
            (None, Slots::Plain { keys, .. }) => keys.dims()[2],
            (None, Slots::Packed(packed)) => packed.range.len(),
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
        match &self.kv {
            Slots::Plain { keys, .. } => keys.dims()[1] * keys.dims()[2],
            Slots::Packed(packed) => packed.rows(),
        }
    }

    /// Bytes of keys, values and biases.
    pub(crate) fn bytes(&self) -> usize {
        let of = |x: &Tensor| x.elem_count() * x.dtype().size_in_bytes();
        let kv = match &self.kv {
            Slots::Plain { keys, values } => of(keys) + of(values),
            Slots::Packed(packed) => packed.bytes(),
        };
        kv + self.bias.as_ref().map_or(0, of)
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
        let same_slots = match (&self.kv, &other.kv) {
            (Slots::Plain { keys, values }, Slots::Plain { keys: other_keys, values: other_values }) => {
                same_memory(keys, other_keys) && same_memory(values, other_values)
            }
            (Slots::Packed(a), Slots::Packed(b)) => a.same(b),
            _ => false,
        };
        same_bias && self.counts == other.counts && same_slots
    }

    /// The rows of one head as a chunk of a single head, a view; packed ones are unpacked.
    pub(crate) fn head(&self, head: usize) -> Result<Self> {
        let (keys, values) = self.plain()?;
        let Some(counts) = &self.counts else {
            return Ok(Self {
                kv: Slots::Plain { keys: keys.narrow(1, head, 1)?, values: values.narrow(1, head, 1)? },
                bias: self.bias.as_ref().map(|b| b.narrow(0, head, 1)).transpose()?,
                ..self.clone()
            });
        };
        let (start, len) = (counts[..head].iter().sum(), counts[head]);
        Ok(Self {
            kv: Slots::Plain { keys: keys.narrow(2, start, len)?, values: values.narrow(2, start, len)? },
            bias: self.bias.as_ref().map(|b| b.narrow(1, start, len)).transpose()?,
            counts: None,
            ..self.clone()
        })
    }

    /// The same with all heads at one length, as a compaction takes it: zeros with a bias of −∞ fill up the shorter. Packed
    /// slots of uneven heads are unpacked.
    pub(super) fn padded(&self) -> Result<Self> {
        let Some(counts) = &self.counts else { return Ok(self.clone()) };
        let (slots, whole) = (self.slots(), self.unpacked()?);
        let (mut keys, mut values, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        for (index, count) in counts.iter().enumerate() {
            let (head, missing) = (whole.head(index)?, slots - count);
            let (head_keys, head_values) = head.plain()?;
            keys.push(head_keys.pad_with_zeros(2, 0, missing)?);
            values.push(head_values.pad_with_zeros(2, 0, missing)?);
            let device = head_keys.device();
            let live = head.bias.map_or_else(|| Tensor::zeros((1, *count), DType::F32, device), Ok)?;
            biases.push(if missing == 0 {
                live
            } else {
                Tensor::cat(&[live, Tensor::full(f32::NEG_INFINITY, (1, missing), device)?], 1)?
            });
        }
        Ok(Self {
            kv: Slots::Plain { keys: Tensor::cat(&keys, 1)?, values: Tensor::cat(&values, 1)? },
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
        let kv = match &self.kv {
            Slots::Plain { keys, values } => {
                Slots::Plain { keys: keys.narrow(2, start, len)?, values: values.narrow(2, start, len)? }
            }
            Slots::Packed(packed) => Slots::Packed(packed.narrow(start, len)),
        };
        Ok(Self {
            counts: None,
            kv,
            bias: self.bias.as_ref().map(|b| b.narrow(1, start, len)).transpose()?,
            positions: if self.exact { len } else { self.positions },
            exact: self.exact,
            places: self.places.as_ref().map(|places| places[start..start + len].into()),
        })
    }
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
