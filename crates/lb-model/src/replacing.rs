//! One pass over the layers that replaces each layer's cache before it is attended to.

use candle_core::Tensor;
use lb_am::{CompactedLayer, LayerKv};

use crate::model::Rows;
use crate::pass::Pass;
use crate::residual::Residual;
use crate::{Captured, Decoder, KvCache, Result};

/// What [`Decoder::forward_replacing`] hands out.
#[derive(Debug)]
pub struct Replaced {
    /// The replaced layers and behind them the tokens' own keys and values; cut back to the length of the full cache
    /// it is the compacted cache alone.
    pub cache: KvCache,
    /// The queries that each layer was replaced by, and the logits of the last token.
    pub captured: Captured,
}

impl Decoder {
    /// Reads `tokens` behind `full` while `replace` exchanges one layer after another: it gets the layer's index, the
    /// queries of the tokens and the layer, and what it returns is what these queries attend to. A layer with a window is
    /// not exchanged: it keeps what the window reaches. So the queries of
    /// layer l come from a residual stream that has run through the replaced layers before it (AM, arXiv 2602.16284,
    /// on-policy queries). One pass; `full` is not changed.
    ///
    /// # Shapes
    /// `replace` gets queries `[kv_heads, group_size * tokens, head_dim]`, rows (head of the group, token). The tokens
    /// are read in one piece.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward) and of `replace`; [`Error::Empty`](crate::Error::Empty) for an empty cache;
    /// [`Error::Shape`](crate::Error::Shape) and [`Error::Cache`](crate::Error::Cache) where a replacement does not fit.
    pub fn forward_replacing(
        &self,
        tokens: &[u32],
        full: &KvCache,
        replace: &mut dyn FnMut(usize, &Tensor, LayerKv) -> Result<CompactedLayer>,
    ) -> Result<Replaced> {
        self.check_input(tokens, full)?;
        let positions = full.logical_len();
        let mut cache = KvCache::new(self.config(), full.dtype(), full.device());
        let pass = Pass::new(&[(positions, tokens.len())], &self.ropes, self.device())?;
        let mut x = Residual::new(self.embed(tokens)?);
        let mut queries = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let before = &mut |queries: &Tensor, cache: &mut crate::cache::LayerCache| {
                let replaced = match self.config().window(index) {
                    None => replace(index, queries, full.layer(index)?)?,
                    Some(window) => full.reached(index, window, &(0..positions), 0)?,
                };
                cache.push(full.replacement(index, &replaced)?);
                Ok(())
            };
            let (next, heard) = layer.forward(x, &pass, &mut [cache.layer_mut(index)], before)?;
            x = next;
            queries.extend(heard.into_iter().map(|heard| heard.queries));
        }
        cache.advance(positions + tokens.len());
        let logits = self.logits(&x.finish()?, &pass, Rows::Last)?.squeeze(0)?;
        Ok(Replaced { cache, captured: Captured { queries, logits } })
    }
}
