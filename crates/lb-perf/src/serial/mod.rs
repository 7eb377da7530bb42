//! The baseline: the original order, one (layer, KV head) after another, in plain tensor operations.
//!
//! The mathematics is that of `lb_am::compact` with a selection per head; `tests/overhead.rs` holds the two
//! against each other. Nothing of `lb_am` computes here, so that a faster `lb_am` is measured against the same baseline.

mod nnls;
mod system;

use std::time::{Duration, Instant};

use candle_core::{D, DType, Device, Tensor};
use lb_am::{
    BetaMethod, Budget, Compaction, LayerKv, NnlsStart, RowWeighting, ScoreAgg, Selection, Sharing, Spans,
    Timing, ValuesMethod,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is fitted after the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SerialFit {
    /// This library's defaults: steps from the best shared weight, ridge towards the original values.
    Ridge,
    /// The AM reference's defaults: start weights and values by least squares.
    LeastSquares,
}

impl SerialFit {
    /// The configuration of `lb_am` that means the same.
    pub fn config(self, keep_ratio: f64) -> Compaction {
        let config = plain(Compaction::keep_ratio(keep_ratio)).with_selection(Selection::per_head());
        match self {
            Self::Ridge => config,
            Self::LeastSquares => {
                let beta = BetaMethod::Nnls {
                    iterations: Some(4),
                    lower: -3.0,
                    upper: 3.0,
                    start: NnlsStart::LeastSquares,
                    rows: RowWeighting::Mass,
                };
                config.with_beta(beta).with_values(ValuesMethod::LeastSquares)
            }
        }
    }
}

/// One head's result.
#[derive(Clone, Debug)]
pub struct SerialHead {
    /// Slots that stay, ascending.
    pub kept: Vec<u32>,
    /// Their keys `[kept_len, head_dim]`, as they were.
    pub keys: Tensor,
    /// Key biases `[kept_len]`, rounded to the cache dtype, in f32.
    pub bias: Tensor,
    /// Refitted values `[kept_len, head_dim]` in the cache dtype.
    pub values: Tensor,
}

/// Every head's result, and where the time went.
#[derive(Clone, Debug)]
pub struct Serial {
    /// `[layer][head]`.
    pub heads: Vec<Vec<SerialHead>>,
    /// Wall time by step, all heads together.
    pub timing: Timing,
}

/// Compacts head by head: the full n x S logits and softmax, the best ⌈r·S⌉ positions, β, C2, then the next head.
///
/// # Shapes
/// `layers[l]` `[kv_heads, seq_len, head_dim]` without a bias, `queries[l]` `[kv_heads, n_queries, head_dim]`.
///
/// # Numerics
/// Everything in f32, systems in f64, results in the cache dtype, as in `lb_am`.
///
/// # Errors
/// [`Error::Config`] for a keep ratio outside (0, 1] and for a cache that carries biases; [`Error::Tensor`] for shapes
/// that do not fit; [`Error::Compaction`] for a system that is not positive definite.
pub fn compact_serially(
    layers: &[LayerKv],
    queries: &[Tensor],
    keep_ratio: f64,
    fit: SerialFit,
) -> Result<Serial> {
    let config = fit.config(keep_ratio);
    config.validate()?;
    if layers.len() != queries.len() {
        let reason = "need one tensor for each layer";
        return Err(Error::config("queries", queries.len(), reason));
    }
    let started = Instant::now();
    let mut serial = Serial { heads: Vec::new(), timing: Timing::default() };
    for (layer, queries) in layers.iter().zip(queries) {
        if layer.bias.is_some() {
            return Err(Error::config("bias", "given", "the baseline takes caches without biases"));
        }
        let mut heads = Vec::new();
        for head in 0..layer.kv_heads() {
            let part = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.get(head)?.contiguous()?) };
            let head = Head {
                keys: part(&layer.keys)?,
                values: part(&layer.values)?,
                queries: part(queries)?,
                scale: layer.scale,
            };
            heads.push(head.compact(&config, &mut serial.timing)?);
        }
        serial.heads.push(heads);
    }
    serial.timing.total = started.elapsed();
    Ok(serial)
}

/// One problem of many.
struct Head {
    keys: Tensor,
    values: Tensor,
    queries: Tensor,
    scale: f32,
}

/// Attention over the whole cache.
struct Full {
    queries: Tensor,
    max: Tensor,
    mass: Tensor,
    output: Tensor,
    scores: Vec<f32>,
}

impl Head {
    fn compact(&self, config: &Compaction, timing: &mut Timing) -> Result<SerialHead> {
        let full = timed(&mut timing.scores, || self.attend())?;
        let (pooled, kept) = timed(&mut timing.mask, || Ok(select(&full.scores, config)))?;
        let index = Tensor::new(&kept[..], self.keys.device())?;
        let keys = self.keys.index_select(&index, 0)?;
        let values = self.values.index_select(&index, 0)?;
        let device = self.keys.device();
        if kept.len() == full.scores.len() {
            let bias = Tensor::zeros(kept.len(), DType::F32, device)?;
            return Ok(SerialHead { kept, keys, bias, values });
        }
        let wide = keys.to_dtype(DType::F32)?;
        let bias = timed(&mut timing.beta, || {
            let weights = logits(&full.queries, &wide, self.scale)?.broadcast_sub(&full.max)?.exp()?;
            let fitted = nnls::weights(&weights, &full.mass, config.beta)?;
            Ok(fitted.log()?.flatten_all()?.to_dtype(self.keys.dtype())?.to_dtype(DType::F32)?)
        })?;
        let values = timed(&mut timing.values, || {
            let logits = logits(&full.queries, &wide, self.scale)?.broadcast_add(&bias)?;
            let weights = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
            let attention = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
            let importance: Vec<f32> = kept.iter().map(|slot| pooled[*slot as usize]).collect();
            let fitted = system::refit(&attention, &full.output, &values, &importance, config.values)?;
            Ok(fitted.to_dtype(self.values.dtype())?)
        })?;
        Ok(SerialHead { kept, keys, bias, values })
    }

    fn attend(&self) -> Result<Full> {
        let queries = self.queries.to_dtype(DType::F32)?;
        let (keys, values) = (self.keys.to_dtype(DType::F32)?, self.values.to_dtype(DType::F32)?);
        let logits = logits(&queries, &keys, self.scale)?;
        let max = logits.max_keepdim(D::Minus1)?;
        let weights = logits.broadcast_sub(&max)?.exp()?;
        let mass = weights.sum_keepdim(D::Minus1)?;
        let probabilities = weights.broadcast_div(&mass)?;
        let output = probabilities.matmul(&values)?;
        let scores = probabilities.mean(0)?.to_vec1()?;
        Ok(Full { queries, max, mass, output, scores })
    }
}

/// Mean scores, spans of nine, equal counts: what is measured here is the same work in every layer, head and program.
pub(crate) fn plain(compaction: Compaction) -> Compaction {
    compaction.with_score(ScoreAgg::Mean).with_pooling(9).with_sharing(Sharing::Equal)
}

/// scale · Q Kᵀ.
fn logits(queries: &Tensor, keys: &Tensor, scale: f32) -> Result<Tensor> {
    Ok((queries * f64::from(scale))?.matmul(&keys.t()?)?)
}

/// Pooled scores, and the best positions by them: the first ones first, then by score, then by place.
fn select(scores: &[f32], config: &Compaction) -> (Vec<f32>, Vec<u32>) {
    let Spans::Max { width } = config.spans else { return (scores.to_vec(), Vec::new()) };
    let seq_len = scores.len();
    let pooled: Vec<f32> = (0..seq_len)
        .map(|j| {
            let window = j.saturating_sub(width / 2)..(j + width / 2 + 1).min(seq_len);
            scores[window].iter().copied().fold(f32::NEG_INFINITY, f32::max)
        })
        .collect();
    let Budget::KeepRatio(ratio) = config.budget else { return (pooled, Vec::new()) };
    let count = ((ratio * seq_len as f64 - 1e-9).ceil() as usize).max(config.protect.first).min(seq_len);
    let mut ranked: Vec<usize> = (0..seq_len).collect();
    let rank = |j: usize| (j >= config.protect.first, -pooled[j], j);
    ranked.sort_by(|a, b| {
        let (a, b) = (rank(*a), rank(*b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
    });
    let mut kept: Vec<u32> = ranked[..count].iter().map(|j| *j as u32).collect();
    kept.sort_unstable();
    (pooled, kept)
}

fn timed<T>(clock: &mut Duration, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = step();
    *clock += started.elapsed();
    result
}

/// The numbers of a matrix in f64.
fn wide(tensor: &Tensor) -> Result<Vec<f64>> {
    let values = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f64::from).collect())
}
