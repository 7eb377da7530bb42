//! A cache of some slots alone.

use candle_core::Tensor;
use lb_am::LayerKv;
use lb_model::KvCache;

use crate::Result;
use crate::context::Context;

/// A cache of the given slots alone, keys and values unchanged, at their own positions.
pub(super) fn only(context: &Context, kept: &[u32]) -> Result<KvCache> {
    let full = &context.full.cache;
    let index = Tensor::new(kept, full.device())?;
    let pick = |layer: LayerKv| -> Result<LayerKv> {
        let bias = layer.bias.map(|b| b.index_select(&index, 1)).transpose()?;
        let (keys, values) = (layer.keys.index_select(&index, 1)?, layer.values.index_select(&index, 1)?);
        Ok(LayerKv::new(keys, values, bias)?.with_scale(layer.scale))
    };
    let layers = full.layers()?.into_iter().map(pick).collect::<Result<Vec<_>>>()?;
    let mut cache = context.model().new_cache();
    cache.append_layers(&layers, context.seq_len())?;
    Ok(cache)
}
