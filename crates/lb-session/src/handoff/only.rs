//! A cache of some slots alone.

use candle_core::Tensor;
use lb_am::LayerKv;
use lb_model::KvCache;

use crate::Result;
use crate::session::WorkerSession;

impl WorkerSession {
    /// A cache of the given slots alone, keys and values unchanged, at their own positions.
    pub(super) fn only(&self, kept: &[u32]) -> Result<KvCache> {
        let index = Tensor::new(kept, self.held.cache.device())?;
        let pick = |layer: LayerKv| -> Result<LayerKv> {
            let bias = layer.bias.map(|b| b.index_select(&index, 1)).transpose()?;
            Ok(LayerKv::new(
                layer.keys.index_select(&index, 1)?,
                layer.values.index_select(&index, 1)?,
                bias,
            )?
            .with_scale(layer.scale))
        };
        let layers = self.held.cache.layers()?.into_iter().map(pick).collect::<Result<Vec<_>>>()?;
        let mut cache = self.worker.model().new_cache();
        cache.append_layers(&layers, self.held.tokens.len())?;
        Ok(cache)
    }
}
