//! What the ways to cut a cache have in common.

use std::time::Duration;

use candle_core::Tensor;
use lb_am::{CompactedLayer, Compaction, Compactor, LayerKv, Observed, Protected, Report};
use lb_model::KvCache;

use super::ReusedTask;
use crate::context::Context;
use crate::queries::Extra;

/// The queries that a trajectory is compacted for, and what else their pass left.
#[derive(Clone)]
pub(crate) struct QueryPass {
    /// By layer that attends to everything.
    pub(super) queries: Vec<Tensor>,
    /// What they saw of the whole trajectory, where that was noted.
    pub(super) observed: Option<Vec<Observed>>,
    /// What the selection reads besides.
    pub(super) extra: Extra,
    pub(super) reused: Option<ReusedTask>,
    /// What was drafted of the answer.
    pub(super) draft: Vec<u32>,
    /// Tokens that were read.
    pub(super) prefilled: usize,
    pub(super) elapsed: Duration,
}

impl QueryPass {
    /// With what the selection reads besides, and what that cost.
    pub(super) fn with_extra(self, extra: Extra) -> Self {
        let (prefilled, elapsed) = (self.prefilled + extra.prefilled, self.elapsed + extra.elapsed);
        Self { extra, prefilled, elapsed, ..self }
    }
}

/// A compacted cache, and how it came about.
pub(super) struct CutCache {
    pub(super) cache: KvCache,
    /// By position, the share of the (layer, KV head) pairs that have it.
    pub(super) kept_by: Vec<f32>,
    pub(super) report: Report,
    pub(super) reused: Option<ReusedTask>,
    /// What was drafted of the answer.
    pub(super) draft: Vec<u32>,
    /// Tokens that the model computed.
    pub(super) prefilled: usize,
    /// Time until the queries were there.
    pub(super) querying: Duration,
}

impl CutCache {
    /// Without what its queries cost and left.
    pub(super) fn new(cache: KvCache, kept_by: Vec<f32>, report: Report) -> Self {
        Self {
            cache,
            kept_by,
            report,
            reused: None,
            draft: Vec::new(),
            prefilled: 0,
            querying: Duration::ZERO,
        }
    }
}

/// A compaction of layers of the worker, with the starts of units where its spans are such.
pub(crate) fn compactor<'a>(
    context: &Context,
    layers: &'a [LayerKv],
    queries: &'a [Tensor],
    compaction: &'a Compaction,
    units: Option<&'a [u32]>,
) -> Compactor<'a> {
    let compactor =
        Compactor::new(layers, queries, compaction).group_size(context.worker().config().group_size());
    match units {
        Some(units) => compactor.units(units),
        None => compactor,
    }
}

/// The compaction with what it protects of the positions `from..to` of `seq_len`, where they are compacted alone.
///
/// The template's head competes like any other text: keeping it whole costs a tenth of a briefing of 2 %, and
/// answers were worse for it (`docs/fidelity.md`).
pub(super) fn protected_within(
    compaction: &Compaction,
    seq_len: usize,
    from: usize,
    to: usize,
) -> Compaction {
    let Protected { first, last } = compaction.protect;
    let protect = Protected {
        first: first.saturating_sub(from).min(to - from),
        last: last.saturating_sub(seq_len - to).min(to - from),
    };
    compaction.clone().with_protect(protect)
}

/// The share of (layer, KV head) pairs that keep each of `seq_len` positions. Each part is compacted layers, and the
/// position of their first slot.
pub(super) fn kept_by(parts: &[(usize, Vec<CompactedLayer>)], seq_len: usize) -> Vec<f32> {
    let mut counts = vec![0.0; seq_len];
    let mut pairs = 0.0;
    for (number, (from, layers)) in parts.iter().enumerate() {
        for layer in layers {
            let heads = layer.keys.dims().first().copied().unwrap_or(0);
            pairs += if number == 0 { heads as f32 } else { 0.0 };
            for head in 0..heads {
                for slot in layer.kept.head(head) {
                    if let Some(count) = counts.get_mut(from + *slot as usize) {
                        *count += 1.0;
                    }
                }
            }
        }
    }
    counts.into_iter().map(|count| count / f32::max(pairs, 1.0)).collect()
}
