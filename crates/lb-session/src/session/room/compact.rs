//! The oldest part of a cache, compacted without a task.

use std::time::Instant;

use candle_core::{DType, Tensor};
use lb_am::{BetaMethod, CompactedLayer, Compaction, Kept, LayerKv, Protected, Selection};
use lb_model::{KvCache, ModelConfig};

use super::{CompactOldest, RoomFit, RoomReport};
use crate::briefing::compactor;
use crate::context::{Context, FullCache, Reader};
use crate::queries::REQUEST;
use crate::session::entering::GoOn;
use crate::{Error, Result};

impl CompactOldest {
    fn compaction(&self, kept_len: usize) -> Compaction {
        let protect = Protected { first: 0, last: 0 };
        let compaction =
            Compaction::kept_len(kept_len).with_selection(Selection::shared()).with_protect(protect);
        match self.fit {
            RoomFit::Nothing => compaction.selection_only(),
            RoomFit::Values => compaction.with_beta(BetaMethod::Zero),
            RoomFit::BiasesAndValues => compaction,
        }
    }
}

/// Compacts the oldest positions of `full` behind the template's head until `need` become free.
pub(super) fn compact_oldest(
    context: &Context,
    full: &mut FullCache,
    policy: CompactOldest,
    need: usize,
    go_on: GoOn<'_>,
) -> Result<RoomReport> {
    let (start, seq_len, from) = (Instant::now(), full.tokens.len(), context.head().len());
    let span = policy.span(seq_len - from, need);
    let (to, kept_len) = (from + span, policy.kept(span));
    let (queries, read) = repeated(context, full, (from, to), policy.queries, go_on)?;
    let (config, model) = (context.worker().config(), context.model());
    let layers = full.cache.layer_views(from, to)?;
    let (global, queries) = (config.of_global_layers(layers.clone()), config.of_global_layers(queries));
    let compaction = policy.compaction(kept_len);
    let compacted = compactor(context, &global, &queries, &compaction, None).run()?.layers;
    let slots = compacted.first().map(|layer| layer.kept.head(0).to_vec()).unwrap_or_default();
    let mut compacted = with_picked(config, compacted, &layers, &slots)?;
    let kept: Vec<u32> = slots.iter().map(|slot| from as u32 + slot).collect();
    let behind = (from + kept.len()) as u32;
    let places: Vec<u32> = (from as u32..behind).collect();
    for (index, layer) in compacted.iter_mut().enumerate() {
        layer.keys = model.rerotate_to(index, &layer.keys, &kept, &places)?;
    }
    let mut cache = model.new_cache();
    cache.append_layers(&owned(full.cache.layers_range(0, from)?)?, from)?;
    cache.append_compacted(&compacted, kept.len())?;
    if to < seq_len {
        cache.append_layers(&moved_down(context, &full.cache, to, behind as usize)?, seq_len - to)?;
    }
    let mut starts = moved_starts(&full.starts, &kept, from, to);
    starts.retain(|start| (*start as usize) < seq_len - span + kept.len());
    let token = |at: &u32| full.tokens[*at as usize];
    let tokens = full.tokens[..from]
        .iter()
        .copied()
        .chain(kept.iter().map(token))
        .chain(full.tokens[to..].iter().copied());
    *full = FullCache::new(cache, tokens.collect(), starts);
    Ok(RoomReport { from, to, kept: kept.len(), seq_len, read, elapsed: start.elapsed() })
}

/// Compacted layers for every layer: those with a window have the same slots as the others, unchanged, as if what is left
/// had been the text.
fn with_picked(
    config: &ModelConfig,
    compacted: Vec<CompactedLayer>,
    layers: &[LayerKv],
    slots: &[u32],
) -> Result<Vec<CompactedLayer>> {
    let mut compacted = compacted.into_iter();
    let complete = |(index, layer)| match config.window(index) {
        None => compacted.next().map(Ok),
        Some(_) => Some(picked(layer, slots)),
    };
    layers.iter().enumerate().filter_map(complete).collect()
}

/// Some slots of a layer, unchanged, counted anew.
fn picked(layer: &LayerKv, slots: &[u32]) -> Result<CompactedLayer> {
    let index = Tensor::new(slots, layer.keys.device())?;
    let pick = |x: &Tensor| x.contiguous()?.index_select(&index, 1);
    let (keys, values) = (pick(&layer.keys)?, pick(&layer.values)?);
    let bias = Tensor::zeros((layer.kv_heads(), slots.len()), DType::F32, layer.keys.device())?;
    let kept = Kept::shared((0..slots.len() as u32).collect());
    Ok(CompactedLayer { keys, values, bias, scale: layer.scale, kept, packed: None })
}

/// Queries of the positions `from..to`, read once more behind themselves after a request to repeat them: up to `count`.
/// Chunk by chunk, each behind the request, so that few positions are needed.
fn repeated(
    context: &Context,
    full: &FullCache,
    (from, to): (usize, usize),
    count: usize,
    go_on: GoOn<'_>,
) -> Result<(Vec<Tensor>, usize)> {
    let (model, options) = (context.model(), &context.settings.prefill);
    let mut asked = full.cache.fork();
    asked.truncate(to)?;
    let request = Reader::unguarded(context).task_tokens(&REQUEST.into())?;
    model.prefill(&request, &mut asked, options, &mut |_, _| {})?;
    let text = &full.tokens[from..to];
    let count = count.min(text.len());
    let picked: Vec<usize> = (0..count).map(|number| number * text.len() / count).collect();
    let free = context.worker().config().position_limit() - asked.logical_len();
    let chunk = options.chunk.min(free);
    let (mut parts, mut read) = (Vec::new(), request.len());
    for (number, tokens) in text.chunks(chunk).enumerate() {
        let (start, end) = (number * chunk, number * chunk + tokens.len());
        let here: Vec<u32> =
            picked.iter().filter(|at| (start..end).contains(at)).map(|at| (at - start) as u32).collect();
        if here.is_empty() {
            continue;
        }
        let captured = model.prefill_capturing(tokens, &mut asked.fork(), options, &mut |_, _| {})?;
        parts.push(model.pick_queries(&captured.queries, &here)?);
        read += tokens.len();
        if !go_on(0, 0) {
            return Err(Error::Cancelled);
        }
    }
    Ok((model.join_queries(&parts)?, read))
}

/// The slots of a cache from `from` on, as they are at the positions from `to` on.
fn moved_down(context: &Context, cache: &KvCache, from: usize, to: usize) -> Result<Vec<LayerKv>> {
    let (model, end) = (context.model(), cache.logical_len());
    let positions: Vec<u32> = (from as u32..end as u32).collect();
    let places: Vec<u32> = (to as u32..(to + end - from) as u32).collect();
    let moved = |(index, layer): (usize, LayerKv)| {
        let keys = model.rerotate_to(index, &layer.keys, &positions, &places)?;
        Ok(LayerKv { keys, ..layer })
    };
    owned(cache.layers_range(from, end)?)?.into_iter().enumerate().map(moved).collect()
}

/// The same in memory of their own, so that what they were cut from can go.
fn owned(layers: Vec<LayerKv>) -> Result<Vec<LayerKv>> {
    let own = |layer: LayerKv| {
        let bias = layer.bias.map(|bias| bias.force_contiguous()).transpose()?;
        let (keys, values) = (layer.keys.force_contiguous()?, layer.values.force_contiguous()?);
        Ok(LayerKv { keys, values, bias, scale: layer.scale, finite: layer.finite })
    };
    layers.into_iter().map(own).collect()
}

/// Where segments begin once only `kept` is left of `from..to`. Segments of which nothing is left are gone.
fn moved_starts(starts: &[u32], kept: &[u32], from: usize, to: usize) -> Vec<u32> {
    let (from, to) = (from as u32, to as u32);
    let behind = from + kept.len() as u32;
    let moved = |start: &u32| match *start {
        start if start < from => start,
        start if start < to => from + kept.partition_point(|at| *at < start) as u32,
        start => start - to + behind,
    };
    let mut moved: Vec<u32> = starts.iter().map(moved).collect();
    moved.dedup();
    moved
}

#[cfg(test)]
mod tests {
    use super::moved_starts;

    #[test]
    fn segments_begin_where_their_first_kept_token_is() {
        // Segments at 2, 5, 8 and 11; of 2..9 the positions 3, 4 and 8 stay.
        assert_eq!(moved_starts(&[0, 2, 5, 8, 11], &[3, 4, 8], 2, 9), [0, 2, 4, 7]);
        // Of the segment at 5 nothing stays; the one at 8 was cut.
        assert_eq!(moved_starts(&[0, 2, 5, 8], &[2], 2, 9), [0, 2, 3]);
    }
}
