//! The result of a compaction, and the report on how it came about.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::error_target::ErrorTarget;
use crate::fits::{BetaFit, ValuesFit};
use crate::kept::Kept;
use crate::layout::LayerKv;
use crate::mask::MaskInfo;
use crate::packing::PackedLayer;

/// A compacted cache, layer by layer.
#[derive(Clone, Debug)]
pub struct Compacted {
    /// One entry per layer that was passed in.
    pub layers: Vec<CompactedLayer>,
    /// What was kept and how well it fits.
    pub report: Report,
}

/// What is left of the cache of one layer.
#[derive(Clone, Debug)]
pub struct CompactedLayer {
    /// Kept keys `[kv_heads, kept_len, head_dim]`, bit-identical rows of the original in their original rotation unless they are
    /// packed; where heads keep different counts, shorter ones end in zeros.
    pub keys: Tensor,
    /// Values `[kv_heads, kept_len, head_dim]` in the cache dtype.
    pub values: Tensor,
    /// Bias `[kv_heads, kept_len]` in f32 to be added to each key's logit; −∞ marks padding.
    pub bias: Tensor,
    /// Original slots: one list for all heads, or one for each.
    pub kept: Kept,
    /// That of the layer: what q · k is multiplied with.
    pub scale: f32,
    /// Keys and values in few bits, where that is how they are stored ([`Compactor::packed`](crate::Compactor::packed));
    /// `keys` and `values` are then what these unpack to. Whoever changes the tensors must drop it.
    pub packed: Option<PackedLayer>,
}

impl CompactedLayer {
    /// Slots of the head that keeps the most.
    pub fn kept_len(&self) -> usize {
        self.kept.max_len()
    }

    /// This layer as the input of another compaction. The tensors are shared, not copied.
    ///
    /// # Errors
    ///
    /// Those of [`LayerKv::new`], should the public fields have been changed.
    pub fn to_layer(&self) -> Result<LayerKv> {
        Ok(LayerKv::new(self.keys.clone(), self.values.clone(), Some(self.bias.clone()))?
            .with_scale(self.scale))
    }
}

/// What a compaction did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Positions before, of the longest layer.
    pub seq_len: usize,
    /// Positions after, of the layer and head that kept the most.
    pub kept_len: usize,
    /// Kept / original positions over all layers and heads.
    pub keep_ratio: f64,
    /// Position scores g over all layers and heads, after spans. Only a shared mask is selected by them;
    /// where layers differ in length, a position is averaged over the layers that reach it.
    pub scores: Vec<f32>,
    /// The same before spans.
    pub raw_scores: Vec<f32>,
    /// The shared mask; otherwise that of the first layer that kept `kept_len`, and of its first head.
    pub mask: MaskInfo,
    /// Every mask, layer by layer and head by head; empty where there is only one.
    pub masks: Vec<MaskInfo>,
    /// The bias fit, where one was asked for.
    pub beta: Option<BetaFit>,
    /// The value fit, where one was asked for.
    pub values: Option<ValuesFit>,
    /// How an error target was met, where there was one.
    pub error_target: Option<ErrorTarget>,
    /// Where the time went.
    pub timing: Timing,
}

/// Wall time of each step, over all layers. On a GPU, work is queued and lands on the step that first reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Finding the budget for an error target.
    pub search: Duration,
    /// Attention of the queries over the full cache.
    pub scores: Duration,
    /// Pooling, selection and folding.
    pub mask: Duration,
    /// Gathering the keys and fitting the biases.
    pub beta: Duration,
    /// Refitting the values.
    pub values: Duration,
    /// Everything, input checks included.
    pub total: Duration,
}

/// Adds what a step takes to a clock.
pub(crate) fn timed<T>(clock: &mut Duration, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = step();
    *clock += started.elapsed();
    result
}
