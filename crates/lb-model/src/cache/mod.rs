//! The explicit KV cache.
//!
//! Each layer is a list of frozen chunks, shared between forks, and one tail that grows in place. Positions are
//! logical and belong to the whole cache; slots are physical and may differ from layer to layer, and in a compacted
//! part from head to head. Frozen chunks may be packed into few bits; the tail never is.

mod chunk;
mod geometry;
mod io;
mod io_packed;
mod layer;
mod slots;
mod store;
mod tail;
mod windows;

use candle_core::{DType, Device, Tensor};
use lb_am::{Compacted, CompactedLayer, LayerKv};
use lb_kernels::PackedBits;

pub(crate) use chunk::Chunk;
use geometry::Geometry;
pub(crate) use layer::{LayerCache, Views};
pub(crate) use slots::{PackedSlots, Slots};
pub(crate) use tail::SlotKind;

use crate::{Error, ModelConfig, Result};

/// Keys and values of everything a model has read, layer by layer, with biases where it was compacted.
///
/// Keys are stored after key norm and rotation, each at its own position. [`fork`](Self::fork) copies nothing;
/// whatever happens to one side afterwards is invisible to the other.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    logical_len: usize,
    geometry: Geometry,
    dtype: DType,
    device: Device,
}

/// Lengths of a cache at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Of each layer.
    slots: Vec<usize>,
    logical_len: usize,
}

impl KvCache {
    /// An empty cache for a model of this shape. `dtype` is that of the stored keys and values and may be narrower
    /// than the model's.
    pub fn new(config: &ModelConfig, dtype: DType, device: &Device) -> Self {
        let geometry = Geometry::of(config);
        let (heads, dim) = (geometry.kv_heads, geometry.head_dim);
        let kind = SlotKind { heads, dim, dtype, device: device.clone() };
        let layers = (0..geometry.layers).map(|_| LayerCache::new(kind.clone())).collect();
        Self { layers, logical_len: 0, geometry, dtype, device: device.clone() }
    }

    /// A cache that starts with a compacted one; the next token's position is `logical_len`, the length of what was
    /// compacted. Nothing is copied, but where heads keep different counts: there each head's own rows are, and what
    /// fills up the shorter heads is left out.
    ///
    /// # Errors
    /// [`Error::Shape`] when layers, heads or widths are not the model's, [`Error::Cache`] when a layer keeps more
    /// slots than `logical_len` or layers differ in dtype or device, [`Error::ContextOverflow`].
    pub fn from_compacted(compacted: &Compacted, logical_len: usize, config: &ModelConfig) -> Result<Self> {
        let first = compacted.layers.first().ok_or(Error::Empty { arg: "compacted" })?;
        let mut cache = Self::new(config, first.keys.dtype(), first.keys.device());
        cache.append_compacted(&compacted.layers, logical_len)?;
        Ok(cache)
    }

    /// Appends compacted layers that stand for `n_positions` positions; see [`from_compacted`](Self::from_compacted).
    /// A layer with a window is not compacted but keeps its last positions as they are, see
    /// [`with_windows`](Self::with_windows).
    ///
    /// # Errors
    /// Those of [`append_layers`](Self::append_layers), [`Error::Cache`] for other slots in a layer with a window. The cache
    /// is unchanged then.
    pub fn append_compacted(&mut self, layers: &[CompactedLayer], n_positions: usize) -> Result<()> {
        let plain: Vec<LayerKv> = layers.iter().map(plain).collect();
        self.check_append(&plain, n_positions)?;
        let chunk = |(index, layer)| self.compacted_chunk(index, layer, n_positions);
        let chunks = layers.iter().enumerate().map(chunk).collect::<Result<Vec<_>>>()?;
        self.push_chunks(chunks, n_positions);
        Ok(())
    }

    /// The next token's position: how many tokens were read, whatever was dropped since.
    pub fn logical_len(&self) -> usize {
        self.logical_len
    }

    /// Same as [`logical_len`](Self::logical_len).
    pub fn seq_len(&self) -> usize {
        self.logical_len
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.logical_len == 0
    }

    /// Slots of one layer, of its longest head; 0 for a layer that does not exist.
    pub fn slot_count(&self, layer: usize) -> usize {
        self.layers.get(layer).map_or(0, LayerCache::slots)
    }

    /// Slots of the longest layer.
    pub fn slots(&self) -> usize {
        self.layers.iter().map(LayerCache::slots).max().unwrap_or(0)
    }

    /// Slots of a KV head on average over layers and heads, rounded up: what the cache costs in memory and attention
    /// where layers or heads keep different counts, and [`slots`](Self::slots) where they do not.
    pub fn mean_slots(&self) -> usize {
        let rows: usize = self.layers.iter().map(LayerCache::rows).sum();
        rows.div_ceil((self.layers.len() * self.geometry.kv_heads).max(1))
    }

    /// Runs of slots that lie behind one another in memory, of the layer that has the most. Forks and answers add none;
    /// each appended piece is one.
    pub fn runs(&self) -> usize {
        self.layers.iter().map(LayerCache::runs).max().unwrap_or(0)
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// dtype of keys and values that are not packed.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the tensors are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of all filled slots, keys, values and biases, shared ones included; unused capacity is not counted.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }

    /// The same slots in so many bits: keys on a grid for each channel of 32 slots, values on one for each 32 channels of a slot
    /// (KIVI, arXiv 2402.02750), biases as they are. This cache keeps its own; what is read behind the packed slots is
    /// in the cache's dtype. Layers that are handed out ([`layer`](Self::layer)) or [picked](Self::pick) from are unpacked.
    ///
    /// # Errors
    /// [`Error::Cache`] off the CPU and for slots that are packed already, [`Error::Kernel`] for numbers that no grid reaches.
    pub fn packed(&self, bits: PackedBits) -> Result<Self> {
        if !self.device.is_cpu() {
            return Err(Error::cache("packed slots are for the CPU"));
        }
        let layers = self.layers.iter().map(|layer| layer.packed(bits)).collect::<Result<_>>()?;
        let (geometry, device) = (self.geometry.clone(), self.device.clone());
        Ok(Self { layers, logical_len: self.logical_len, geometry, dtype: self.dtype, device })
    }

    /// A cache of the same model that holds nothing.
    #[must_use]
    pub fn empty_like(other: &Self) -> Self {
        let kind = LayerCache::kind_of;
        let layers = other.layers.iter().map(|layer| LayerCache::new(kind(layer))).collect();
        let (geometry, device) = (other.geometry.clone(), other.device.clone());
        Self { layers, logical_len: 0, geometry, dtype: other.dtype, device }
    }

    /// The same content without copying it.
    #[must_use]
    pub fn fork(&self) -> Self {
        let layers = self.layers.iter().map(LayerCache::fork).collect();
        let (geometry, device) = (self.geometry.clone(), self.device.clone());
        Self { layers, logical_len: self.logical_len, geometry, dtype: self.dtype, device }
    }

    /// Forgets the positions from `logical_len` on.
    ///
    /// # Errors
    /// [`Error::Cache`] when the cache is shorter, or when the cut falls inside a compacted part; nothing changes then.
    pub fn truncate(&mut self, logical_len: usize) -> Result<()> {
        let Some(drop) = self.logical_len.checked_sub(logical_len) else {
            return Err(Error::cache(format!(
                "cannot truncate {} positions to {logical_len}",
                self.logical_len
            )));
        };
        if let Some(layer) = self.layers.iter().position(|l| !l.can_drop(drop)) {
            return Err(Error::cache(format!(
                "position {logical_len} lies inside a compacted part of layer {layer}, which cannot be cut"
            )));
        }
        for layer in &mut self.layers {
            layer.drop_last(drop)?;
        }
        self.logical_len = logical_len;
        Ok(())
    }

    /// One layer as a compaction takes it: `[kv_heads, slots, head_dim]`, bias where any part has one. The tensors
    /// stay as they are whatever happens to the cache. They are contiguous, and shared where the layer is one run
    /// of slots that fills its buffer. Where heads have different counts, zeros with a bias of −∞ fill up the shorter.
    ///
    /// # Errors
    /// [`Error::Cache`] for a layer that does not exist, [`Error::Empty`] for an empty one.
    pub fn layer(&self, layer: usize) -> Result<LayerKv> {
        self.layer_range(layer, 0, self.slot_count(layer))
    }

    /// All layers, see [`layer`](Self::layer).
    ///
    /// # Errors
    /// Those of [`layer`](Self::layer).
    pub fn layers(&self) -> Result<Vec<LayerKv>> {
        (0..self.layers.len()).map(|i| self.layer(i)).collect()
    }

    /// The slots `from..to` of every layer, for instance a task's own keys and values behind a trajectory.
    ///
    /// # Errors
    /// [`Error::Cache`] when a layer has fewer than `to` slots, [`Error::Empty`] when `from >= to`.
    pub fn layers_range(&self, from: usize, to: usize) -> Result<Vec<LayerKv>> {
        (0..self.layers.len()).map(|i| self.layer_range(i, from, to)).collect()
    }

    /// The slots `from..to` of one layer, see [`layer`](Self::layer).
    ///
    /// # Errors
    /// [`Error::Cache`] when the layer has fewer than `to` slots, [`Error::Empty`] when `from >= to`.
    pub fn layer_range(&self, layer: usize, from: usize, to: usize) -> Result<LayerKv> {
        let view = self.layer_view(layer, from, to)?;
        Ok(LayerKv { keys: view.keys.contiguous()?, values: view.values.contiguous()?, ..view })
    }

    /// Like [`layers_range`](Self::layers_range), for a compaction: nothing is copied where the slots of a layer are one
    /// run. The rows of a head lie behind one another, but heads may lie apart.
    ///
    /// # Errors
    /// Those of [`layers_range`](Self::layers_range).
    pub fn layer_views(&self, from: usize, to: usize) -> Result<Vec<LayerKv>> {
        (0..self.layers.len()).map(|i| self.layer_view(i, from, to)).collect()
    }

    fn layer_view(&self, layer: usize, from: usize, to: usize) -> Result<LayerKv> {
        let slots = self.slot_count(layer);
        if layer >= self.layers.len() || to > slots {
            return Err(Error::cache(format!("layer {layer} has {slots} slots, slot {to} was asked for")));
        }
        if from >= to {
            return Err(Error::Empty { arg: "cache range" });
        }
        // Forked, so that what is handed out is never written again.
        let parts = overlapping(&self.layers[layer].fork().frozen, from, to)?;
        let join = |tensors: Vec<Tensor>| -> Result<Tensor> {
            let joined = if let [only] = &tensors[..] { only.clone() } else { Tensor::cat(&tensors, 2)? };
            Ok(lb_kernels::contiguous_heads(&joined.squeeze(0)?)?)
        };
        let plain = parts.iter().map(Chunk::plain).collect::<Result<Vec<_>>>()?;
        let (keys, values) = plain.into_iter().unzip();
        let (keys, values) = (join(keys)?, join(values)?);
        Ok(LayerKv::new(keys, values, self.join_bias(&parts)?)?.with_scale(self.geometry.scale))
    }

    fn join_bias(&self, parts: &[Chunk]) -> Result<Option<Tensor>> {
        if parts.iter().all(|c| c.bias.is_none()) {
            return Ok(None);
        }
        let zeros = |slots| Tensor::zeros((self.geometry.kv_heads, slots), DType::F32, &self.device);
        let biases = parts
            .iter()
            .map(|c| c.bias.clone().map_or_else(|| zeros(c.slots()), Ok))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Some(Tensor::cat(&biases, 1)?.contiguous()?))
    }

    /// Appends slots computed elsewhere, one entry per layer, that stand for `n_positions` positions: a briefing, or
    /// a task's own keys and values behind one. Layers may differ in length, but for those with a window, where every
    /// position has its slot.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Cache`] (dtype, device, attention scale, more slots than positions), [`Error::ContextOverflow`],
    /// [`Error::Empty`]. The cache is unchanged then.
    pub fn append_layers(&mut self, layers: &[LayerKv], n_positions: usize) -> Result<()> {
        self.check_append(layers, n_positions)?;
        self.check_windows(layers, n_positions)?;
        let chunks = layers.iter().map(|l| Chunk::of_layer(l, n_positions)).collect::<Result<Vec<_>>>()?;
        self.push_chunks(chunks, n_positions);
        Ok(())
    }

    fn push_chunks(&mut self, chunks: Vec<Chunk>, n_positions: usize) {
        for (layer, chunk) in self.layers.iter_mut().zip(chunks) {
            layer.push(chunk);
        }
        self.logical_len += n_positions;
    }

    fn check_append(&self, layers: &[LayerKv], n_positions: usize) -> Result<()> {
        let Geometry { layers: count, limit, .. } = self.geometry;
        if layers.len() != count {
            let expected = format!("{count} layers");
            return Err(Error::Shape { arg: "layers", expected, got: vec![layers.len()] });
        }
        if n_positions == 0 {
            return Err(Error::Empty { arg: "n_positions" });
        }
        let positions = self.logical_len + n_positions;
        if positions > limit {
            return Err(Error::ContextOverflow { positions, limit });
        }
        layers.iter().enumerate().try_for_each(|(index, layer)| self.check_layer(index, layer, n_positions))
    }

    /// `layer` as what stands for all that this cache has read.
    pub(crate) fn replacement(&self, index: usize, layer: &CompactedLayer) -> Result<Chunk> {
        self.check_layer(index, &plain(layer), self.logical_len)?;
        self.compacted_chunk(index, layer, self.logical_len)
    }

    fn check_layer(&self, index: usize, layer: &LayerKv, n_positions: usize) -> Result<()> {
        let Geometry { kv_heads, head_dim, scale, .. } = self.geometry;
        let dims = layer.keys.dims();
        // A window may have left a layer nothing.
        let nothing = self.window(index).is_some() && dims == [kv_heads, 0, head_dim];
        if !nothing {
            LayerKv::new(layer.keys.clone(), layer.values.clone(), layer.bias.clone())?;
        }
        if dims[0] != kv_heads || dims[2] != head_dim {
            let expected = format!("[{kv_heads}, slots, {head_dim}]");
            return Err(Error::Shape { arg: "layers", expected, got: dims.to_vec() });
        }
        if layer.scale.to_bits() != scale.to_bits() {
            let reason = format!("layer {index} has the attention scale {}, the model {scale}", layer.scale);
            return Err(Error::cache(reason));
        }
        if dims[1] > n_positions {
            let reason = format!("layer {index} has {} slots for {n_positions} positions", dims[1]);
            return Err(Error::cache(reason));
        }
        if layer.keys.dtype() != self.dtype || !layer.keys.device().same_device(&self.device) {
            let (got, on) = (layer.keys.dtype(), layer.keys.device().location());
            let reason = format!("layer {index} is {got:?} on {on:?}, the cache {:?}", self.dtype);
            return Err(Error::cache(reason));
        }
        Ok(())
    }

    /// Makes room for `tokens` without growing step by step, and where it grows, for `more` behind them.
    pub(crate) fn reserve(&mut self, tokens: usize, more: usize) -> Result<()> {
        self.layers.iter_mut().try_for_each(|layer| layer.reserve(tokens, more))
    }

    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// After every layer has appended `tokens` slots.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.logical_len += tokens;
    }

    /// How long everything is, for [`roll_back`](Self::roll_back).
    pub(crate) fn mark(&self) -> Mark {
        let slots = self.layers.iter().map(LayerCache::slots).collect();
        Mark { slots, logical_len: self.logical_len }
    }

    /// Undoes what was appended since `mark`.
    pub(crate) fn roll_back(&mut self, mark: &Mark) -> Result<()> {
        for (layer, before) in self.layers.iter_mut().zip(&mark.slots) {
            layer.drop_last(layer.slots() - before)?;
        }
        self.logical_len = mark.logical_len;
        Ok(())
    }

    /// Fails when this cache belongs to a model of another shape.
    pub(crate) fn check_model(&self, config: &ModelConfig, device: &Device) -> Result<()> {
        if self.geometry != Geometry::of(config) {
            return Err(Error::cache(format!(
                "made for {:?}, the model is {:?}",
                self.geometry,
                Geometry::of(config)
            )));
        }
        if !self.device.same_device(device) {
            return Err(Error::cache(format!(
                "on {:?}, the model on {:?}",
                self.device.location(),
                device.location()
            )));
        }
        Ok(())
    }
}

fn plain(layer: &CompactedLayer) -> LayerKv {
    let CompactedLayer { keys, values, bias, scale, .. } = layer.clone();
    LayerKv { keys, values, bias: Some(bias), scale, finite: false }
}

/// The parts of `chunks` inside the slots `from..to`.
fn overlapping(chunks: &[Chunk], from: usize, to: usize) -> Result<Vec<Chunk>> {
    let mut parts = Vec::new();
    let mut start = 0;
    for chunk in chunks {
        let end = start + chunk.slots();
        let (a, b) = (from.max(start), to.min(end));
        if a < b {
            parts.push(chunk.narrow(a - start, b - a)?);
        }
        start = end;
    }
    Ok(parts)
}
