//! What goes into the fits, and what comes out.

use candle_core::Tensor;

use crate::compacted::CompactedLayer;
use crate::config::{BetaMethod, Compaction};
use crate::error::{AtLayer, Error, Result};
use crate::fits::steps_of;
use crate::kept::Kept;
use crate::layout::LayerKv;
use crate::observed::Observed;
use crate::packing::check_keys;

pub use crate::fits::{BetaPart, BetaSums, ValuesPart, ValuesSums};

/// A selection, and all that its fits look at.
#[derive(Clone, Copy, Debug)]
pub struct FitInput<'a> {
    /// The full cache; where something was folded, with the values and biases of kept slots as that left them.
    pub layers: &'a [LayerKv],
    /// The queries to fit by, per layer `[kv_heads, n_queries, head_dim]`.
    pub queries: &'a [Tensor],
    /// What they saw of the full cache: the target. With output where values are fitted.
    pub observed: &'a [Observed],
    /// The slots that stay, one entry per layer.
    pub kept: &'a [Kept],
    /// The kept keys as they are stored, by layer `[kv_heads, kept_len, head_dim]` in f32, zeros where a head keeps fewer than
    /// another; `None` where they are stored as they are in `layers`. Fits are made against these then, and a layer
    /// comes back with them, and with biases and fitted values that are not rounded to the cache's dtype.
    pub keys: Option<&'a [Tensor]>,
    /// The scores that hold values fast: `[layer or 1][head or 1][slot]`.
    pub importance: &'a [Vec<Vec<f32>>],
    /// How biases and values are fitted.
    pub config: &'a Compaction,
}

impl FitInput<'_> {
    /// The scores of a layer: one list for all its heads, or one for each.
    pub fn importance(&self, layer: usize) -> &[Vec<f32>] {
        &self.importance[layer % self.importance.len()]
    }

    /// Steps of projected gradient for the biases, where they are fitted: those of
    /// [`BetaMethod::Nnls`](crate::BetaMethod), or as many as the rows for each kept slot call for, alike in all heads and
    /// layers, whatever each of them keeps. `None` where the weights are to be solved for their bounded optimum.
    pub fn beta_steps(&self) -> Option<usize> {
        let BetaMethod::Nnls { iterations, .. } = self.config.beta else { return None };
        let (mut rows, mut slots) = (0, 0);
        for index in (0..self.layers.len()).filter(|index| self.is_shorter(*index)) {
            let heads = self.layers[index].kv_heads();
            rows += heads * self.queries[index].dims()[1];
            slots += self.kept[index].total(heads);
        }
        steps_of(iterations, rows, slots)
    }

    /// Whether a layer keeps less than it has, so that there is something to correct.
    pub fn is_shorter(&self, layer: usize) -> bool {
        let cache = &self.layers[layer];
        self.kept[layer].total(cache.kv_heads()) < cache.kv_heads() * cache.seq_len()
    }
}

/// Compacted layers, and what the fits add up to.
#[derive(Clone, Debug, Default)]
pub struct Fitted {
    /// One entry per layer.
    pub layers: Vec<CompactedLayer>,
    /// Sums of the bias fits.
    pub beta: BetaSums,
    /// Sums of the value fits.
    pub values: ValuesSums,
}

impl Fitted {
    /// Fails where a result does not have the shapes of its input.
    pub(crate) fn check(&self, input: &FitInput<'_>) -> Result<()> {
        if self.layers.len() != input.layers.len() {
            let expected = format!("{} fitted layers", input.layers.len());
            return Err(Error::Shape { arg: "fitted", expected, got: vec![self.layers.len()] });
        }
        for (index, (layer, fitted)) in input.layers.iter().zip(&self.layers).enumerate() {
            let want = [layer.kv_heads(), input.kept[index].max_len(), layer.head_dim()];
            for tensor in [&fitted.keys, &fitted.values] {
                if tensor.dims() != want {
                    let (expected, got) = (format!("{want:?}"), tensor.dims().to_vec());
                    return Err(Error::Shape { arg: "fitted", expected, got }).at_layer(index);
                }
            }
        }
        check_keys(input, &self.layers)
    }
}
