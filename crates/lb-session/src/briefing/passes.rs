//! From tasks to the queries that their trajectory is compacted for.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_model::{KvCache, Observing};

use super::cut::QueryPass;
use super::lookahead::passes_ahead;
use super::{BriefConfig, ReusedTask, TaskState};
use crate::context::Reader;
use crate::ledger::share;
use crate::queries::{Extra, QuerySource, gather};
use crate::{Error, Result};

/// The queries that a configuration asks for, with what the selection reads besides, and the task's state where it is wanted.
pub(super) fn pass(
    reader: Reader<'_>,
    task: &[u32],
    config: &BriefConfig,
    extra: &Extra,
) -> Result<QueryPass> {
    if let Some(lookahead) = config.looks_ahead() {
        let passes = passes_ahead(reader, &[task.to_vec()], (config, &lookahead), extra);
        let mut passes = passes.map_err(Error::of_only_call)?;
        let pass = passes.pop().ok_or(Error::Empty { arg: "task" })?;
        return Ok(pass.with_extra(extra.clone()));
    }
    Ok(plain_pass(reader, task, config)?.with_extra(extra.clone()))
}

fn plain_pass(reader: Reader<'_>, task: &[u32], config: &BriefConfig) -> Result<QueryPass> {
    let (start, model) = (Instant::now(), reader.context.worker().config());
    let reuse = config.task_state == TaskState::Reuse;
    if config.queries == QuerySource::Task {
        let (Observing { captured, observed }, fork) = observing(reader, task, &[], config)?;
        let reused =
            if reuse { Some(state_behind_all(reader, &fork, task.len(), captured.logits)?) } else { None };
        let (queries, prefilled) = (model.of_global_layers(captured.queries), task.len());
        let (extra, elapsed) = (Extra::default(), start.elapsed());
        let draft = Vec::new();
        return Ok(QueryPass { queries, observed, extra, reused, draft, prefilled, elapsed });
    }
    let (queries, mut prefilled) = gather(reader, &config.queries, task)?;
    let queries = model.of_global_layers(queries);
    let mut reused = None;
    if reuse {
        let (captured, fork) = reader.capture_behind_all(task)?;
        reused = Some(state_behind_all(reader, &fork, task.len(), captured.logits)?);
        prefilled += task.len();
    }
    let (extra, elapsed) = (Extra::default(), start.elapsed());
    Ok(QueryPass { queries, observed: None, extra, reused, draft: Vec::new(), prefilled, elapsed })
}

/// The same for several tasks, which are read together; each has an equal share of the time.
pub(super) fn passes(
    reader: Reader<'_>,
    tasks: &[Vec<u32>],
    config: &BriefConfig,
    extra: &Extra,
) -> Result<Vec<QueryPass>> {
    if let Some(lookahead) = config.looks_ahead() {
        return passes_ahead(reader, tasks, (config, &lookahead), extra);
    }
    let (start, context) = (Instant::now(), reader.context);
    let mut forks: Vec<_> = tasks.iter().map(|_| context.full.cache.fork()).collect();
    let (options, mut go_on) = (&context.settings.prefill, |_, _| reader.guard.goes_on());
    let captured = context.model().prefill_capturing_batch_while(tasks, &mut forks, options, &mut go_on);
    let captured = captured.map_err(|error| Error::of_sequence(error, |index| index))?;
    let mut passes = Vec::with_capacity(tasks.len());
    for ((captured, fork), tokens) in captured.into_iter().zip(&forks).zip(tasks) {
        let reused = match config.task_state {
            TaskState::Reuse => Some(state_behind_all(reader, fork, tokens.len(), captured.logits)?),
            TaskState::Recompute => None,
        };
        let queries = context.worker().config().of_global_layers(captured.queries);
        let prefilled = tokens.len();
        let (extra, elapsed) = (Extra::default(), Duration::ZERO);
        let draft = Vec::new();
        passes.push(QueryPass { queries, observed: None, extra, reused, draft, prefilled, elapsed });
    }
    let elapsed = share(start.elapsed(), tasks.len());
    Ok(passes.into_iter().map(|pass| QueryPass { elapsed, ..pass }).collect())
}

/// The task read behind the full cache, and `more` behind it, for its queries alone: logits and the cache are those of the task's end.
/// What is seen is noted on the way where that serves the compaction. `more` is left out where all is not read in one piece
/// ([`in_one_piece`]).
pub(super) fn observing(
    reader: Reader<'_>,
    task: &[u32],
    more: &[u32],
    config: &BriefConfig,
) -> Result<(Observing, KvCache)> {
    if !in_one_piece(reader, task.len() + more.len(), config) {
        let (captured, fork) = reader.capture_behind_all(task)?;
        return Ok((Observing { captured, observed: None }, fork));
    }
    let context = reader.context;
    let (mut fork, tokens, score) =
        (context.full.cache.fork(), [task, more].concat(), config.compaction.score);
    let end = task.len().saturating_sub(1);
    let observing = context.model().forward_observing_at(&tokens, end, &mut fork, score)?;
    fork.truncate(context.full.cache.logical_len() + task.len())?;
    Ok((observing, fork))
}

/// Whether so many tokens are read in one pass that notes what they see.
pub(super) fn in_one_piece(reader: Reader<'_>, tokens: usize, config: &BriefConfig) -> bool {
    let context = reader.context;
    let whole = config.chunking.is_none_or(|chunking| chunking.chunk_len >= context.seq_len());
    let room = context.worker().config().position_limit().saturating_sub(context.full.cache.logical_len());
    whole && tokens <= context.settings.prefill.chunk.min(room)
}

/// What a task of `task_len` tokens left behind the full cache in `fork`.
pub(super) fn state_behind_all(
    reader: Reader<'_>,
    fork: &KvCache,
    task_len: usize,
    logits: Tensor,
) -> Result<ReusedTask> {
    let seq_len = reader.context.seq_len();
    Ok(ReusedTask { layers: fork.layers_range(seq_len, seq_len + task_len)?, logits })
}
