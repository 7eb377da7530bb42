//! The queries of tasks and of what stands in for their answers, for all tasks of a batch at once.

use std::borrow::BorrowMut;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::Observed;
use lb_model::{Captured, GenerateOptions, KvCache, Observing};

use super::{Draft, DraftOver, Lookahead, echo};
use crate::briefing::cut::{CutCache, QueryPass};
use crate::briefing::passes::{in_one_piece, observing, state_behind_all};
use crate::briefing::{BriefConfig, TaskState, pieces};
use crate::context::Reader;
use crate::ledger::share;
use crate::queries::Extra;
use crate::{Error, Result};

/// One task on its way.
pub(super) struct Ahead {
    /// The full cache and the task behind it.
    pub(super) behind: KvCache,
    /// Logits of the task's last token over the full cache.
    pub(super) logits: Tensor,
    pub(super) pass: QueryPass,
}

/// By the queries of each task, whose tokens are given, and of what stands in for its answer. `extra` is what the selection reads
/// besides; it is paid for elsewhere.
pub(in crate::briefing) fn passes_ahead(
    reader: Reader<'_>,
    tasks: &[Vec<u32>],
    (config, lookahead): (&BriefConfig, &Lookahead),
    extra: &Extra,
) -> Result<Vec<QueryPass>> {
    let start = Instant::now();
    let work = Work { reader, tasks, config, extra };
    let echo = echo(reader.context, lookahead.echo);
    let draft = lookahead.draft_beside(&echo);
    let mut ahead = match tasks {
        // Weights are unpacked once for both.
        [task] if in_one_piece(reader, task.len() + echo.len(), config) => vec![work.task(task, &echo)?],
        _ => {
            let mut ahead = work.tasks()?;
            work.join(&mut ahead, &vec![echo; tasks.len()])?;
            ahead
        }
    };
    let earlier = |task: &Vec<u32>| reader.context.earlier.like(task, lookahead.earlier);
    work.join(&mut ahead, &tasks.iter().map(earlier).collect::<Vec<_>>())?;
    if let Some(learned) = &lookahead.learned {
        work.join_learned(&mut ahead, learned)?;
    }
    if let Some(draft) = draft {
        work.draft(&mut ahead, draft)?;
    }
    let mut passes = Vec::with_capacity(tasks.len());
    for (ahead, tokens) in ahead.into_iter().zip(tasks) {
        let Ahead { behind, logits, mut pass } = ahead;
        if config.task_state == TaskState::Reuse {
            pass.reused = Some(state_behind_all(reader, &behind, tokens.len(), logits)?);
        }
        passes.push(pass.thinned(reader)?);
    }
    let elapsed = share(start.elapsed(), tasks.len());
    Ok(passes.into_iter().map(|pass| QueryPass { elapsed, extra: extra.for_free(), ..pass }).collect())
}

#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) reader: Reader<'a>,
    tasks: &'a [Vec<u32>],
    config: &'a BriefConfig,
    extra: &'a Extra,
}

impl Work<'_> {
    /// A task behind the full cache, and an echo behind it; what they see is noted as they are read.
    fn task(self, task: &[u32], echo: &[u32]) -> Result<Ahead> {
        let (Observing { captured, observed }, behind) = observing(self.reader, task, echo, self.config)?;
        let mut ahead = self.ahead(task, captured, observed, behind)?;
        ahead.pass.prefilled += echo.len();
        Ok(ahead)
    }

    /// The tasks behind the full cache.
    fn tasks(self) -> Result<Vec<Ahead>> {
        let full = &self.reader.context.full.cache;
        let mut forks: Vec<KvCache> = self.tasks.iter().map(|_| full.fork()).collect();
        let captured = self.capture(self.tasks, &mut forks)?;
        let ahead = captured.into_iter().zip(forks).zip(self.tasks);
        ahead.map(|((captured, behind), task)| self.ahead(task, captured, None, behind)).collect()
    }

    /// A task that was read, with what stands behind it for its queries, and what they saw, where that was noted.
    fn ahead(
        self,
        task: &[u32],
        captured: Captured,
        observed: Option<Vec<Observed>>,
        behind: KvCache,
    ) -> Result<Ahead> {
        let queries = self.global(captured.queries);
        let observed = if observed.is_some() { observed } else { self.seen(&queries)? };
        let pass = QueryPass {
            queries,
            observed,
            extra: self.extra.for_free(),
            reused: None,
            draft: Vec::new(),
            prefilled: task.len(),
            elapsed: Duration::ZERO,
        };
        Ok(Ahead { behind, logits: captured.logits, pass })
    }

    /// Reads what may be an answer behind each task; its queries join those that are there.
    fn join(self, ahead: &mut [Ahead], answers: &[Vec<u32>]) -> Result<()> {
        let (some, numbers): (Vec<&Vec<u32>>, Vec<usize>) = answers
            .iter()
            .enumerate()
            .filter(|(_, tokens)| !tokens.is_empty())
            .map(|(number, tokens)| (tokens, number))
            .unzip();
        if some.is_empty() {
            return Ok(());
        }
        let mut forks: Vec<KvCache> = numbers.iter().map(|number| ahead[*number].behind.fork()).collect();
        let captured = self.capture(&some, &mut forks).map_err(|error| error.at_calls(&numbers))?;
        for ((captured, number), tokens) in captured.into_iter().zip(numbers).zip(some) {
            self.take(&mut ahead[number].pass, captured.queries)?;
            ahead[number].pass.prefilled += tokens.len();
        }
        Ok(())
    }

    /// Queries of what may be an answer, by layer of the model, join those that are there.
    pub(super) fn take(self, pass: &mut QueryPass, queries: Vec<Tensor>) -> Result<()> {
        self.take_weighted(pass, queries, 1.0)
    }

    /// The same for queries that count `weight` times as much in the scores.
    pub(super) fn take_weighted(self, pass: &mut QueryPass, queries: Vec<Tensor>, weight: f64) -> Result<()> {
        let group = self.reader.context.worker().config().group_size();
        let more = self.global(queries);
        if let (Some(before), Some(seen)) = (&pass.observed, self.seen(&more)?) {
            let both = before.iter().zip(&seen).map(|(a, b)| {
                Observed::joined(&[(a, a.rows() as f64), (b, weight * b.rows() as f64)], group)
            });
            pass.observed = Some(both.collect::<lb_am::Result<_>>()?);
        }
        pass.queries = joined(&pass.queries, &more, group)?;
        Ok(())
    }

    /// Writes drafts, and takes their queries in.
    fn draft(self, ahead: &mut [Ahead], draft: Draft) -> Result<()> {
        match draft.over {
            DraftOver::Briefing => self.hold(ahead, draft, self.briefed(ahead, draft)?),
            DraftOver::Full => self.write_over_full(ahead, draft),
        }
    }

    /// Briefings to draft over, with the tasks' own state behind them. What the tasks saw of the full
    /// cache is known already: it costs nothing, and a draft that begins with it is right more often than one over the
    /// briefing alone.
    fn briefed(self, ahead: &[Ahead], draft: Draft) -> Result<Vec<KvCache>> {
        let config = draft.first_briefing(self.config);
        let passes = ahead.iter().map(|ahead| ahead.pass.clone()).collect();
        let cut = pieces::in_place(self.reader, passes, &config)?;
        let mut caches = Vec::with_capacity(ahead.len());
        for (index, ((cut, ahead), tokens)) in cut.into_iter().zip(ahead).zip(self.tasks).enumerate() {
            let CutCache { mut cache, .. } = cut.map_err(|error| error.in_call(index))?;
            let task = state_behind_all(self.reader, &ahead.behind, tokens.len(), ahead.logits.clone())?;
            cache.append_layers(&task.layers, task.len())?;
            caches.push(cache);
        }
        Ok(caches)
    }

    /// Writes behind each cache. Their ends are not read.
    pub(super) fn write(
        self,
        caches: &mut [impl BorrowMut<KvCache>],
        logits: &[Tensor],
        options: &[GenerateOptions],
    ) -> Result<Vec<Vec<u32>>> {
        let mut heard = |_: usize, _: u32, _: &str| self.reader.guard.goes_on();
        let worker = self.reader.context.worker();
        let made = worker.generate_batch_from_logits(caches, logits, options, &mut heard);
        let made = made.map_err(|error| Error::of_sequence(error, |index| index))?;
        self.reader.guard.check()?;
        Ok(made.into_iter().map(|made| made.tokens).collect())
    }

    fn capture(self, tokens: &[impl AsRef<[u32]>], caches: &mut [KvCache]) -> Result<Vec<Captured>> {
        let (context, guard) = (self.reader.context, self.reader.guard);
        let (options, mut go_on) = (&context.settings.prefill, |_, _| guard.goes_on());
        let captured = context.model().prefill_capturing_batch_while(tokens, caches, options, &mut go_on);
        captured.map_err(|error| Error::of_sequence(error, |index| index))
    }

    fn global<T>(self, layers: Vec<T>) -> Vec<T> {
        self.reader.context.worker().config().of_global_layers(layers)
    }

    /// What queries see of the full cache, where it is compacted as a whole.
    fn seen(self, queries: &[Tensor]) -> Result<Option<Vec<Observed>>> {
        let seq_len = self.reader.context.seq_len();
        if self.config.chunking.is_some_and(|chunking| chunking.chunk_len < seq_len) {
            return Ok(None);
        }
        let layers = self.reader.context.layers(0, seq_len)?;
        Ok(Some(Observed::all(&layers, queries, self.config.compaction.score)?))
    }
}

/// Layer by layer, rows again (head of the group, token).
pub(in crate::briefing) fn joined(before: &[Tensor], more: &[Tensor], group: usize) -> Result<Vec<Tensor>> {
    let join = |(a, b): (&Tensor, &Tensor)| -> candle_core::Result<Tensor> {
        let split = |q: &Tensor| q.reshape((q.dim(0)?, group, (), q.dim(2)?));
        let joined = Tensor::cat(&[split(a)?, split(b)?], 2)?;
        let (heads, _, _, width) = joined.dims4()?;
        joined.reshape((heads, (), width))
    };
    before.iter().zip(more).map(|pair| Ok(join(pair).map_err(lb_model::Error::from)?)).collect()
}
