//! From a handoff to what each task gets in the trajectory's place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_am::Protected;
use lb_am::selectors::{random_positions, recent_positions};
use lb_model::KvCache;

use super::only::only;
use super::stand_in::StandIn;
use super::{Handoff, Memo, bm25, lingua, selective, sentences, squeeze, summary};
use crate::context::{Context, Reader};
use crate::{Result, Segment, Storage, Task};

/// What each task gets through `handoff`; through a briefing, which is made elsewhere, nothing.
pub(crate) fn hand_over(
    reader: Reader<'_>,
    memo: &Memo,
    handoff: &Handoff,
    tasks: &[&Task],
) -> Result<Vec<StandIn>> {
    let (start, context, count) = (Instant::now(), reader.context, tasks.len());
    let (seq_len, protect) = (context.seq_len(), Protected::default());
    let selected = |kept: &[u32]| Ok(StandIn::of_cache(context, only(context, kept)?, start.elapsed()));
    let one: Result<StandIn> = match handoff {
        Handoff::Summary(config) => return summary::summarised(reader, &memo.summary, config, tasks),
        Handoff::Bm25 { size, passage } => {
            return bm25::retrieved(context, &memo.passages, *size, *passage, tasks);
        }
        Handoff::SelectiveContext(config) => selective::kept(reader, memo, config),
        Handoff::LlmLingua(config) => lingua::for_any(reader, memo, config),
        Handoff::LongLlmLingua(config) => return lingua::for_each(reader, config, tasks),
        Handoff::Sentences { size, by } => return sentences::extracted(reader, *size, *by, tasks),
        Handoff::Squeeze(config) => return squeeze::squeezed(reader, config, tasks),
        Handoff::None | Handoff::LatentBriefing(_) | Handoff::RenewedBriefing(_) => {
            let head = StandIn::of_text(context, context.head().to_vec());
            Ok(StandIn { kept_len: 0, ..head })
        }
        Handoff::TextReplay => Ok(StandIn::of_text(context, context.text.tokens.clone())),
        Handoff::Notes => Ok(StandIn::of_text(context, notes(reader)?)),
        Handoff::FullKv => Ok(StandIn::of_cache(context, context.full.cache.fork(), Duration::ZERO)),
        Handoff::PackedKv(storage) => {
            Ok(StandIn::of_cache(context, packed(context, memo, *storage)?, start.elapsed()))
        }
        Handoff::Recent(size) => selected(&recent_positions(seq_len, size.resolve(seq_len)?, protect)),
        Handoff::Random { size, seed } => {
            selected(&random_positions(seq_len, size.resolve(seq_len)?, protect, *seed))
        }
    };
    Ok(one?.shared(count))
}

/// The full cache in fewer bits, a fork of what was packed for an earlier call where there was one.
fn packed(context: &Context, memo: &Memo, storage: Storage) -> Result<KvCache> {
    let Some(bits) = storage.bits() else { return Ok(context.full.cache.fork()) };
    if let Some(known) = memo.packed.get(&bits) {
        return Ok(known.fork());
    }
    let packed = Arc::new(context.full.cache.packed(bits)?);
    memo.packed.keep(bits, packed.clone());
    Ok(packed.fork())
}

/// Template head and notes. Each has the tag of what was confirmed.
fn notes(reader: Reader<'_>) -> Result<Vec<u32>> {
    let mut tokens = reader.context.head().to_vec();
    for note in reader.context.notes.iter() {
        tokens.extend(reader.line(&Segment::finding(note.to_string()))?);
    }
    Ok(tokens)
}
