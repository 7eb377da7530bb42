//! Layers that attend to a window of positions, where a cache is compacted or picked from.
//!
//! Such a layer keeps everything while a cache is read, and its attention leaves out what the window does not reach. A
//! compaction is about the other layers; what it leaves of these is what tokens behind can still see, unchanged.

use std::ops::Range;

use candle_core::{DType, Tensor};
use lb_am::{CompactedLayer, Kept, LayerKv};

use super::{Chunk, Geometry, KvCache, LayerCache, Slots};
use crate::{Error, Result};

impl KvCache {
    /// Compacted layers for every layer of the model from those of the layers that attend to everything
    /// ([`ModelConfig::of_global_layers`](crate::ModelConfig::of_global_layers)): a layer with a window has the last of the
    /// slots `slots` that tokens behind them see, unchanged. `behind`: positions between these slots and the next token.
    /// This cache must be one that was read, with a slot for each position.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not as many layers as attend to everything, [`Error::Cache`] for a cache that lacks
    /// slots.
    pub fn with_windows(
        &self,
        compacted: Vec<CompactedLayer>,
        slots: &Range<usize>,
        behind: usize,
    ) -> Result<Vec<CompactedLayer>> {
        let wanted = (0..self.layers.len()).filter(|layer| self.window(*layer).is_none()).count();
        if compacted.len() != wanted {
            let expected = format!("{wanted} layers that attend to everything");
            return Err(Error::Shape { arg: "compacted", expected, got: vec![compacted.len()] });
        }
        let mut compacted = compacted.into_iter();
        let complete = |layer| match self.window(layer) {
            Some(window) => Some(self.reached(layer, window, slots, behind)),
            None => compacted.next().map(Ok),
        };
        (0..self.layers.len()).filter_map(complete).collect()
    }

    /// The given slots of every layer alone, keys and values unchanged, at their own positions. A layer with a window has
    /// those that the next token sees. This cache must be one that was read, with a slot for each position.
    ///
    /// # Errors
    /// [`Error::Empty`] without slots, [`Error::Cache`] for a cache that lacks slots, and for slots that are not ascending or
    /// that it has not.
    pub fn pick(&self, slots: &[u32]) -> Result<Self> {
        let positions = self.logical_len;
        let ascending = slots.windows(2).all(|pair| pair[0] < pair[1]);
        let Some(last) = slots.last() else { return Err(Error::Empty { arg: "slots" }) };
        if !ascending || *last as usize >= positions {
            return Err(Error::cache(format!("want ascending slots below {positions}")));
        }
        let layers = self.layers.iter().map(LayerCache::fork).collect();
        let (geometry, device) = (self.geometry.clone(), self.device.clone());
        let mut picked = Self { layers, logical_len: positions, geometry, dtype: self.dtype, device };
        for layer in 0..self.layers.len() {
            self.check_whole(layer)?;
            let reach = self.window(layer).map_or(positions, |window| window - 1);
            let seen = slots.partition_point(|slot| (*slot as usize) < positions.saturating_sub(reach));
            let chunk = self.picked(layer, &slots[seen..])?;
            picked.layers[layer].replace(chunk);
        }
        Ok(picked)
    }

    fn picked(&self, layer: usize, slots: &[u32]) -> Result<Chunk> {
        let whole = self.layer(layer)?;
        let index = Tensor::new(slots, &self.device)?;
        let pick = |x: &Tensor| x.index_select(&index, 1);
        let bias = whole.bias.as_ref().map(|bias| bias.index_select(&index, 1)).transpose()?;
        let exact = slots.len() == self.logical_len;
        Ok(Chunk {
            kv: Slots::of_layer(&pick(&whole.keys)?, &pick(&whole.values)?)?,
            bias,
            counts: None,
            positions: self.logical_len,
            exact,
            places: (!exact && self.window(layer).is_some()).then(|| slots.into()),
        })
    }

    /// Of the slots `slots` of a layer those that tokens see from `behind` positions behind them on.
    pub(crate) fn reached(
        &self,
        layer: usize,
        window: usize,
        slots: &Range<usize>,
        behind: usize,
    ) -> Result<CompactedLayer> {
        self.check_whole(layer)?;
        let count = (window - 1).saturating_sub(behind).min(slots.len());
        let from = slots.end - count;
        let kept = Kept::shared(((from - slots.start) as u32..slots.len() as u32).collect());
        let Geometry { kv_heads: heads, head_dim: dim, scale, .. } = self.geometry;
        if count == 0 {
            let nothing = Tensor::zeros((heads, 0, dim), self.dtype, &self.device)?;
            let bias = Tensor::zeros((heads, 0), DType::F32, &self.device)?;
            let (keys, values, packed) = (nothing.clone(), nothing, None);
            return Ok(CompactedLayer { keys, values, bias, scale, kept, packed });
        }
        let LayerKv { keys, values, .. } = self.layer_range(layer, from, slots.end)?;
        let bias = Tensor::zeros((heads, count), DType::F32, &self.device)?;
        Ok(CompactedLayer { keys, values, bias, scale, kept, packed: None })
    }

    /// Positions that a token sees in a layer, all of them without.
    pub(super) fn window(&self, layer: usize) -> Option<usize> {
        let local = self.geometry.local.as_ref()?;
        local.layers.get(layer).copied().unwrap_or(false).then_some(local.window)
    }

    /// A compacted layer as a chunk; a layer with a window is not compacted.
    pub(super) fn compacted_chunk(
        &self,
        index: usize,
        layer: &CompactedLayer,
        positions: usize,
    ) -> Result<Chunk> {
        let Some(window) = self.window(index) else { return Chunk::compacted(layer, positions) };
        let (kept, slots) = (layer.kept.head(0), layer.keys.dim(1)?);
        let last = (positions - slots) as u32..positions as u32;
        if layer.kept.is_shared() && kept.iter().copied().eq(last) {
            return Chunk::of_places(layer, positions);
        }
        Err(Error::cache(format!(
            "layer {index} attends to the last {window} positions and is not compacted: it keeps its last slots as they are \
             (KvCache::with_windows)"
        )))
    }

    /// Fails where a layer with a window lacks slots: which positions they are is not known then.
    pub(super) fn check_windows(&self, layers: &[LayerKv], positions: usize) -> Result<()> {
        let lacks =
            |(index, layer): &(usize, &LayerKv)| self.window(*index).is_some() && layer.seq_len() < positions;
        match layers.iter().enumerate().find(lacks) {
            None => Ok(()),
            Some((index, layer)) => Err(Error::cache(format!(
                "layer {index} has a window, and {} slots for {positions} positions; which they are must be known \
                 (KvCache::append_compacted)",
                layer.seq_len()
            ))),
        }
    }

    fn check_whole(&self, layer: usize) -> Result<()> {
        let (slots, positions) = (self.slot_count(layer), self.logical_len);
        if slots == positions {
            return Ok(());
        }
        Err(Error::cache(format!(
            "layer {layer} has {slots} slots for {positions} positions; want all of them"
        )))
    }
}
