//! What the task looks at: one pass over the full cache per layer gives position scores, mass and output.

use candle_core::Tensor;

use crate::backend::{self, Backend, Observing};
use crate::config::{HeadAgg, ScoreAgg};
use crate::error::Result;
use crate::layout::{LayerKv, check_inputs, common_len};
use crate::observed::{Observed, check_mass};

/// Position scores g_j shared by all layers, before pooling: the queries' attention to each position, aggregated over
/// queries by `score`, then over layers and KV heads by `across` (AM, arXiv 2602.16284, section 3; the shared mask
/// is Latent Briefing's).
///
/// # Shapes
///
/// `queries[l]` is `[kv_heads, n_queries, head_dim]`, the heads of a group one after another; returns `seq_len`
/// scores.
///
/// # Numerics
///
/// Attention in f32 with one row maximum per query; sums over heads in f64.
///
/// # Errors
///
/// Those of [`compact`](crate::compact) on its inputs; layers of different lengths are a [`Error::Shape`](crate::Error::Shape).
pub fn position_scores(
    layers: &[LayerKv],
    queries: &[Tensor],
    score: ScoreAgg,
    across: HeadAgg,
) -> Result<Vec<f32>> {
    let backend = backend::of(layers);
    check_inputs(backend, layers, queries)?;
    common_len(layers)?;
    let observed = observe_all(backend, layers, queries, Observing { score, output: false })?;
    Ok(shared_scores(&observed, across))
}

/// Position scores of each layer on its own, before pooling, aggregated over its KV heads.
///
/// # Shapes
///
/// As [`position_scores`]; returns one list per layer, of that layer's length.
///
/// # Numerics
///
/// As [`position_scores`].
///
/// # Errors
///
/// Those of [`compact`](crate::compact) on its inputs.
pub fn layer_position_scores(
    layers: &[LayerKv],
    queries: &[Tensor],
    score: ScoreAgg,
    across: HeadAgg,
) -> Result<Vec<Vec<f32>>> {
    let backend = backend::of(layers);
    check_inputs(backend, layers, queries)?;
    let observed = observe_all(backend, layers, queries, Observing { score, output: false })?;
    Ok(observed.iter().map(|layer| layer_scores(layer, across)).collect())
}

/// Scores over all layers and heads; where layers differ in length, over those that reach a position.
pub(crate) fn shared_scores(observed: &[Observed], across: HeadAgg) -> Vec<f32> {
    aggregate(observed.iter().flat_map(|layer| &layer.scores), across)
}

/// Scores over the heads of one layer.
pub(crate) fn layer_scores(observed: &Observed, across: HeadAgg) -> Vec<f32> {
    aggregate(&observed.scores, across)
}

pub(crate) fn aggregate<'a>(rows: impl IntoIterator<Item = &'a Vec<f32>>, across: HeadAgg) -> Vec<f32> {
    let mut total: Vec<f64> = Vec::new();
    let mut count: Vec<f64> = Vec::new();
    for row in rows {
        total.resize(total.len().max(row.len()), 0.0);
        count.resize(total.len(), 0.0);
        for ((total, count), score) in total.iter_mut().zip(&mut count).zip(row) {
            match across {
                HeadAgg::Mean => *total += f64::from(*score),
                // Scores are attention weights, never below 0.
                HeadAgg::Max => *total = total.max(f64::from(*score)),
            }
            *count += 1.0;
        }
    }
    match across {
        HeadAgg::Mean => total.iter().zip(&count).map(|(total, count)| (total / count) as f32).collect(),
        HeadAgg::Max => total.iter().map(|total| *total as f32).collect(),
    }
}

/// Observes every layer.
pub(crate) fn observe_all(
    backend: &dyn Backend,
    layers: &[LayerKv],
    queries: &[Tensor],
    what: Observing,
) -> Result<Vec<Observed>> {
    let observed = backend.observe(layers, queries, what)?;
    for (index, observed) in observed.iter().enumerate() {
        check_mass(observed, index)?;
    }
    Ok(observed)
}
