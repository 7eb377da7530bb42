//! The text read and compacted piece by piece, each moved to its place (AM, arXiv 2602.16284, chunked compaction).

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{CompactedLayer, Compaction};

use super::Storage;
use super::cut::CutCache;
use super::pieces::{Piece, compact_piece, join, ranges, with_windows};
use crate::Result;
use crate::context::{Context, Reader};
use crate::queries::Extra;

/// Reads pieces of `chunk_len` tokens right behind the template's head with the task behind them.
pub(super) fn rerotated(
    reader: Reader<'_>,
    task: &[u32],
    compaction: &Compaction,
    chunk_len: usize,
) -> Result<CutCache> {
    let (context, head) = (reader.context, reader.context.head().len());
    let (mut prefilled, mut reading, mut pieces) = (0, Duration::ZERO, Vec::new());
    for (from, to) in ranges(head, context.seq_len(), chunk_len) {
        let start = Instant::now();
        let first = from == head;
        // The first piece stands where it would be read anyway.
        let mut local = context.full.cache.fork();
        local.truncate(if first { to } else { head })?;
        if !first {
            reader.prefill(&context.full.tokens[from..to], &mut local)?;
            prefilled += to - from;
        }
        let captured = reader.capture(task, &mut local.fork())?;
        prefilled += task.len();
        reading += start.elapsed();
        let (from, own) = if first { (0, 0) } else { (from, head) };
        let (slots, model) = (own..local.logical_len(), context.worker().config());
        let layers = model.of_global_layers(local.layers_range(slots.start, slots.end)?);
        let (queries, extra) = (model.of_global_layers(captured.queries), Extra::default());
        let seen = (&queries[..], None, &extra);
        let compacted = compact_piece(context, &layers, seen, (compaction, Storage::Full), (from, to))?;
        let mut compacted = with_windows(context, compacted, &local, &slots, to)?;
        for (index, layer) in compacted.layers.iter_mut().enumerate() {
            layer.keys = moved(context, index, layer, (own, from))?;
        }
        pieces.push(Piece { from, to, compacted });
    }
    Ok(CutCache { prefilled, querying: reading, ..join(context, pieces)? })
}

/// The keys of a layer whose first slot was read at position `own` and stands for `from`.
fn moved(
    context: &Context,
    index: usize,
    layer: &CompactedLayer,
    (own, from): (usize, usize),
) -> Result<Tensor> {
    let (model, by, slots) = (context.model(), (from - own).cast_signed(), layer.keys.dim(1)?);
    // What fills up a shorter head is zero wherever it is.
    let positions = |list: &[u32]| -> Vec<u32> {
        let filled = list.iter().copied().chain(std::iter::repeat(0)).take(slots);
        filled.map(|slot| own as u32 + slot).collect()
    };
    if layer.kept.is_shared() {
        return Ok(model.rerotate(index, &layer.keys, &positions(layer.kept.head(0)), by)?);
    }
    let heads = (0..layer.keys.dim(0)?)
        .map(|head| {
            let keys = layer.keys.narrow(0, head, 1)?;
            model.rerotate(index, &keys, &positions(layer.kept.head(head)), by)
        })
        .collect::<lb_model::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&heads, 0)?)
}
