//! The full cache compacted range by range; as a whole, as one range (AM, arXiv 2602.16284, chunked compaction).

use std::ops::Range;

use candle_core::Tensor;
use lb_am::{Compacted, Compaction, LayerKv, Observed};
use lb_model::KvCache;

use super::cut::{CutCache, QueryPass, compactor, kept_by, protected_within};
use super::{BriefConfig, Storage, merge};
use crate::context::{Context, Reader, unit_starts};
use crate::queries::Extra;
use crate::{Error, Result};

/// Compacted slots that stand for the positions `from..to`.
pub(super) struct Piece {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) compacted: Compacted,
}

/// One cache for each of several tasks; each layer of a range is handed out once for all.
pub(super) fn in_place(
    reader: Reader<'_>,
    passes: Vec<QueryPass>,
    config: &BriefConfig,
) -> Result<Vec<Result<CutCache>>> {
    let (context, seq_len) = (reader.context, reader.context.seq_len());
    let chunk_len = config.chunking.map_or(seq_len, |chunking| chunking.chunk_len);
    let mut pieces: Vec<Result<Vec<Piece>>> = passes.iter().map(|_| Ok(Vec::new())).collect();
    for (from, to) in ranges(0, seq_len, chunk_len) {
        reader.guard.check()?;
        let cache = &context.full.cache;
        let layers = context.layers(from, to)?;
        for (pass, pieces) in passes.iter().zip(&mut pieces) {
            let Ok(done) = pieces else { continue };
            let compacted = compact_for(context, &layers, pass, config, (from, to));
            match compacted.and_then(|c| with_windows(context, c, cache, &(from..to), to)) {
                Ok(compacted) => done.push(Piece { from, to, compacted }),
                Err(error) => *pieces = Err(error),
            }
        }
    }
    let cut = |(pass, pieces): (QueryPass, Result<Vec<Piece>>)| {
        let QueryPass { reused, draft, prefilled, elapsed, .. } = pass;
        Ok(CutCache { reused, draft, prefilled, querying: elapsed, ..join(context, pieces?)? })
    };
    Ok(passes.into_iter().zip(pieces).map(cut).collect())
}

/// `start..end` in pieces of `len`, the last one shorter.
pub(super) fn ranges(start: usize, end: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    (start..end).step_by(len).map(move |from| (from, from.saturating_add(len).min(end)))
}

/// Compacts the positions `from..to` for the queries of one pass.
fn compact_for(
    context: &Context,
    layers: &[LayerKv],
    pass: &QueryPass,
    config: &BriefConfig,
    (from, to): (usize, usize),
) -> Result<Compacted> {
    let extra = pass.extra.range(context, from, to)?;
    let seen = (&pass.queries[..], pass.observed.as_deref(), &extra);
    compact_piece(context, layers, seen, (&config.compaction, config.storage), (from, to))
}

/// Every layer of a piece whose slots in `cache` are `slots` and which ends at `to`: those with a window keep what tokens
/// behind the trajectory see.
pub(super) fn with_windows(
    context: &Context,
    mut compacted: Compacted,
    cache: &KvCache,
    slots: &Range<usize>,
    to: usize,
) -> Result<Compacted> {
    compacted.layers = cache.with_windows(compacted.layers, slots, context.seq_len() - to)?;
    Ok(compacted)
}

/// Compacts the layers that attend to everything, the positions `from..to` alone, by queries, and what they saw of these
/// positions where that is known.
pub(super) fn compact_piece(
    context: &Context,
    layers: &[LayerKv],
    (queries, observed, extra): (&[Tensor], Option<&[Observed]>, &Extra),
    (compaction, storage): (&Compaction, Storage),
    (from, to): (usize, usize),
) -> Result<Compacted> {
    let compaction = protected_within(compaction, context.seq_len(), from, to);
    let units = unit_starts(context, compaction.spans, from, to);
    let compactor =
        extra.to(compactor(context, layers, queries, &compaction, units.as_deref())).packed(storage.bits());
    let compactor = match observed {
        Some(observed) => compactor.observed(observed),
        None => compactor,
    };
    Ok(compactor.run()?)
}

/// The pieces behind one another.
pub(super) fn join(context: &Context, pieces: Vec<Piece>) -> Result<CutCache> {
    let mut cache = context.model().new_cache();
    let (mut reports, mut parts) = (Vec::new(), Vec::new());
    for Piece { from, to, compacted } in pieces {
        cache.append_compacted(&compacted.layers, to - from)?;
        reports.push(compacted.report);
        parts.push((from, context.worker().config().of_global_layers(compacted.layers)));
    }
    let report = merge::of_chunks(reports).ok_or(Error::Empty { arg: "trajectory" })?;
    Ok(CutCache::new(cache, kept_by(&parts, context.seq_len()), report))
}
