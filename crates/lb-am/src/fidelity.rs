//! How well a compacted cache answers queries that no fit has seen.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::backend::{self, Backend};
use crate::compacted::CompactedLayer;
use crate::error::{AtLayer, Error, Result};
use crate::layout::{LayerKv, check_inputs, to_f32};

/// Errors of a compacted cache against the full one.
///
/// Measure it on queries that are held out from the fit. A fit reproduces its own queries as well as it is allowed to,
/// which says little.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Over all layers and heads.
    pub total: Errors,
    /// `heads[layer][head]`.
    pub heads: Vec<Vec<Errors>>,
    /// What is stored.
    pub sizes: Sizes,
}

/// Errors over some queries of one head, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Queries measured; one that is read by several heads counts in each.
    pub queries: usize,
    /// Mean over queries of ‖ŷ − y‖² / head_dim.
    pub mse_mean: f64,
    /// The largest of them.
    pub mse_max: f64,
    /// The root of the mean of their squares.
    pub mse_rms: f64,
    /// ‖Ŷ − Y‖ / ‖Y‖, all queries together; ‖Ŷ‖ where Y is zero.
    pub relative_l2: f64,
    /// Mean over queries of the cosine between ŷ and y; 1 where both are zero, 0 where one is.
    pub cosine: f64,
    /// Mean over queries of |Ẑ / Z − 1|, the relative error of the softmax mass.
    pub mass_error: f64,
}

/// What a compacted cache takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Kept slots, over all layers and heads, padding left out.
    pub kept: usize,
    /// Slots of the full cache, likewise.
    pub full: usize,
    /// Slots in the compacted tensors, padding included.
    pub stored: usize,
    /// Bytes of the kept slots: keys and values in the cache dtype or packed, and a bias of 4 bytes where there are any.
    pub bytes: usize,
    /// Bytes of the full cache, biases counted where it has any.
    pub full_bytes: usize,
    /// `bytes / full_bytes`. The biases are why it is above the keep ratio.
    pub bytes_ratio: f64,
}

impl Fidelity {
    /// Measures the attention output of `queries` over `compacted` against `layers`.
    ///
    /// # Shapes
    ///
    /// `queries[l]` is `[kv_heads, n_queries, head_dim]`, as for [`compact`](crate::compact).
    ///
    /// # Numerics
    ///
    /// Attention in f32, errors summed in f64.
    ///
    /// # Errors
    ///
    /// Those of [`compact`](crate::compact) on its inputs, and [`Error::Shape`] where `compacted` does not fit `layers`.
    pub fn measure(layers: &[LayerKv], compacted: &[CompactedLayer], queries: &[Tensor]) -> Result<Self> {
        let plain = compacted.iter().map(CompactedLayer::to_layer).collect::<Result<Vec<_>>>()?;
        let mut measured = Self::measure_caches(layers, &plain, queries)?;
        measured.sizes.pack(compacted)?;
        Ok(measured)
    }

    /// Like [`measure`](Self::measure) for a smaller cache of any origin. A bias of −∞ marks padding.
    ///
    /// # Shapes
    ///
    /// `compacted[l]` has the KV heads and the head width of `layers[l]`; `queries` as for [`measure`](Self::measure).
    ///
    /// # Numerics
    ///
    /// As [`measure`](Self::measure).
    ///
    /// # Errors
    ///
    /// As [`measure`](Self::measure).
    pub fn measure_caches(layers: &[LayerKv], compacted: &[LayerKv], queries: &[Tensor]) -> Result<Self> {
        let backend = backend::of(layers);
        check_inputs(backend, layers, queries)?;
        if compacted.len() != layers.len() {
            let expected = format!("{} layers", layers.len());
            return Err(Error::Shape { arg: "compacted", expected, got: vec![compacted.len()] });
        }
        let mut all = Sums::default();
        let mut heads = Vec::with_capacity(layers.len());
        for (index, ((layer, small), queries)) in layers.iter().zip(compacted).zip(queries).enumerate() {
            let sums = layer_sums(backend, layer, small, queries).at_layer(index)?;
            for head in &sums {
                all.add(head);
            }
            heads.push(sums.iter().map(Sums::errors).collect());
        }
        Ok(Self { total: all.errors(), heads, sizes: Sizes::of(layers, compacted)? })
    }
}

impl Sizes {
    /// Counts slots and bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] where a bias cannot be read.
    pub fn of(layers: &[LayerKv], compacted: &[LayerKv]) -> Result<Self> {
        let slot = |layer: &LayerKv| 2 * layer.head_dim() * layer.dtype().size_in_bytes();
        let mut sizes = Self { kept: 0, full: 0, stored: 0, bytes: 0, full_bytes: 0, bytes_ratio: 0.0 };
        for (layer, small) in layers.iter().zip(compacted) {
            let (heads, full) = (layer.kv_heads(), layer.kv_heads() * layer.seq_len());
            let kept = live(small)?;
            sizes.kept += kept;
            sizes.full += full;
            sizes.stored += heads * small.seq_len();
            sizes.bytes += kept * (slot(small) + if small.bias.is_some() { 4 } else { 0 });
            sizes.full_bytes += full * (slot(layer) + if layer.bias.is_some() { 4 } else { 0 });
        }
        sizes.bytes_ratio = sizes.bytes as f64 / sizes.full_bytes.max(1) as f64;
        Ok(sizes)
    }
}

impl Sizes {
    /// Counts packed layers as they are stored.
    fn pack(&mut self, compacted: &[CompactedLayer]) -> Result<()> {
        for layer in compacted {
            let Some(packed) = &layer.packed else { continue };
            let kept = live(&layer.to_layer()?)?;
            let of_floats = kept * 2 * layer.keys.dim(2)? * layer.keys.dtype().size_in_bytes();
            self.bytes = self.bytes + packed.bytes() - of_floats;
        }
        self.bytes_ratio = self.bytes as f64 / self.full_bytes.max(1) as f64;
        Ok(())
    }
}

/// Slots of all heads that are no padding.
fn live(layer: &LayerKv) -> Result<usize> {
    let Some(bias) = &layer.bias else { return Ok(layer.kv_heads() * layer.seq_len()) };
    let values = bias.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().filter(|bias| *bias != f32::NEG_INFINITY).count())
}

/// Sums behind [`Errors`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    queries: usize,
    mse: f64,
    mse_squared: f64,
    mse_max: f64,
    error: f64,
    output: f64,
    cosine: f64,
    mass: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.mse += other.mse;
        self.mse_squared += other.mse_squared;
        self.mse_max = self.mse_max.max(other.mse_max);
        self.error += other.error;
        self.output += other.output;
        self.cosine += other.cosine;
        self.mass += other.mass;
    }

    pub(crate) fn errors(&self) -> Errors {
        let n = self.queries.max(1) as f64;
        Errors {
            queries: self.queries,
            mse_mean: self.mse / n,
            mse_max: self.mse_max,
            mse_rms: (self.mse_squared / n).sqrt(),
            relative_l2: if self.output > 0.0 {
                (self.error / self.output).sqrt()
            } else {
                self.error.sqrt()
            },
            cosine: self.cosine / n,
            mass_error: self.mass / n,
        }
    }

    fn query(&mut self, want: &[f32], got: &[f32], mass_ratio: f64) {
        let (mut error, mut norm, mut other, mut along) = (0.0, 0.0, 0.0, 0.0);
        for (want, got) in want.iter().zip(got) {
            let (want, got) = (f64::from(*want), f64::from(*got));
            error += (got - want).powi(2);
            norm += want * want;
            other += got * got;
            along += want * got;
        }
        let mse = error / want.len() as f64;
        self.queries += 1;
        self.mse += mse;
        self.mse_squared += mse * mse;
        self.mse_max = self.mse_max.max(mse);
        self.error += error;
        self.output += norm;
        self.cosine += match (norm > 0.0, other > 0.0) {
            (true, true) => along / (norm * other).sqrt(),
            (false, false) => 1.0,
            _ => 0.0,
        };
        self.mass += (mass_ratio - 1.0).abs();
    }
}

/// One entry per head.
pub(crate) fn layer_sums(
    backend: &dyn Backend,
    layer: &LayerKv,
    small: &LayerKv,
    queries: &Tensor,
) -> Result<Vec<Sums>> {
    layer.check_queries(queries)?;
    let heads = queries.dim(0)?;
    small.check()?;
    if small.kv_heads() != heads || small.head_dim() != layer.head_dim() {
        let expected = format!("[{heads}, kept_len, {}]", layer.head_dim());
        return Err(Error::Shape { arg: "compacted", expected, got: small.keys.dims().to_vec() });
    }
    let queries = to_f32(queries)?;
    let (full, less) = (backend.attend(layer, &queries)?, backend.attend(small, &queries)?);
    // Both masses at the shift of the full cache.
    let less_mass = (less.mass * (less.max - full.max)?.exp()?)?;
    let ratios = (less_mass / full.mass)?.squeeze(2)?.to_vec2::<f32>()?;
    let (want, got) = (full.output.to_vec3::<f32>()?, less.output.to_vec3::<f32>()?);
    let mut sums = vec![Sums::default(); heads];
    for (((sums, want), got), ratios) in sums.iter_mut().zip(want).zip(got).zip(ratios) {
        for ((want, got), ratio) in want.iter().zip(&got).zip(ratios) {
            sums.query(want, got, f64::from(ratio));
        }
    }
    Ok(sums)
}
