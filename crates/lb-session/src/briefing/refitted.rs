//! A briefing with other values and biases.

use lb_am::{Compacted, CompactedLayer, Kept, LayerKv};
use lb_model::{KvCache, ModelConfig};

use super::Briefing;
use crate::{Error, Result};

impl Briefing {
    /// The same briefing with the values and biases of `layers` in the place of its own, as a training gives them. Keys, counts and
    /// everything that is reported stay as they are. Where it was packed, it is in the cache's dtype.
    ///
    /// # Shapes
    /// `layers` are as [`KvCache::layers`] of its cache hands them out.
    ///
    /// # Errors
    /// [`Error::Config`] for a briefing that carries its task's own state, which was read over its own values;
    /// [`Error::Model`] for layers that do not fit the cache.
    pub fn refitted(&self, layers: &[LayerKv], config: &ModelConfig) -> Result<Self> {
        if self.reused.is_some() {
            let reason = "a briefing that carries its task's own state keeps its values; want recompute";
            return Err(Error::config("task_state", "reuse", reason));
        }
        if config.local.is_some() {
            return Err(Error::config(
                "layers",
                "with a window",
                "are not compacted, so nothing is refitted",
            ));
        }
        let own = self.cache.layers()?;
        if own.len() != layers.len() {
            let (expected, got) = (format!("{} layers", own.len()), vec![layers.len()]);
            return Err(lb_model::Error::Shape { arg: "layers", expected, got }.into());
        }
        let layers = own.iter().zip(layers).map(|(own, new)| refitted(own, new)).collect::<Result<_>>()?;
        let compacted = Compacted { layers, report: self.report.clone() };
        Ok(Self {
            cache: KvCache::from_compacted(&compacted, self.cache.logical_len(), config)?,
            task: self.task.clone(),
            kept_len: self.kept_len,
            prefilled: self.prefilled,
            kept_by: self.kept_by.clone(),
            tokens: self.tokens.clone(),
            reused: None,
            draft: self.draft.clone(),
            report: self.report.clone(),
            timing: self.timing,
        })
    }
}

/// Slots that filled up a shorter head do so again, whatever their bias is now.
fn refitted(own: &LayerKv, new: &LayerKv) -> Result<CompactedLayer> {
    let (heads, slots) = (own.kv_heads(), own.seq_len());
    let bias = match (&new.bias, &own.bias) {
        (Some(new), Some(own)) => own.eq(f32::NEG_INFINITY)?.where_cond(own, &new.to_dtype(own.dtype())?)?,
        (Some(bias), None) | (None, Some(bias)) => bias.clone(),
        (None, None) => own.keys.zeros_like()?.narrow(2, 0, 1)?.reshape((heads, slots))?,
    };
    let bias = bias.to_dtype(candle_core::DType::F32)?.detach();
    let values = new.values.to_dtype(own.values.dtype())?.contiguous()?.detach();
    LayerKv::new(own.keys.clone(), values.clone(), Some(bias.clone()))?;
    let kept = Kept::shared((0..slots as u32).collect());
    Ok(CompactedLayer { keys: own.keys.clone(), values, bias, kept, scale: own.scale, packed: None })
}
