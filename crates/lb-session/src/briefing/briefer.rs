//! From a task to its briefing.

use std::time::{Duration, Instant};

use lb_am::ScoreAgg;

use super::cut::{CutCache, QueryPass};
use super::lookahead::echo;
use super::passes::{pass, passes};
use super::{BriefConfig, BriefTiming, Briefing, ChunkMode, Lookahead, TaskState};
use super::{on_policy, pieces, rerotated};
use crate::context::Reader;
use crate::ledger::share;
use crate::queries::{Extra, QuerySource};
use crate::{Error, Result, Task};

/// What passes of one task are told apart by.
type PassKind = (ScoreAgg, TaskState, Option<Lookahead>);

/// Cuts briefings from the full cache of a context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Briefer<'a> {
    reader: Reader<'a>,
}

impl<'a> Briefer<'a> {
    pub(crate) fn new(reader: Reader<'a>) -> Self {
        Self { reader }
    }

    /// One briefing.
    pub(crate) fn brief(self, task: &Task, config: &BriefConfig) -> Result<Briefing> {
        config.validate()?;
        let tokens = self.reader.task_tokens(task)?;
        self.reader.context.check_trajectory()?;
        let start = Instant::now();
        let cut = match config.chunking {
            Some(chunking) if chunking.mode == ChunkMode::Rerotated => {
                rerotated::rerotated(self.reader, &tokens, &config.compaction, chunking.chunk_len)?
            }
            None if config.on_policy => on_policy::on_policy(self.reader, &tokens, config)?,
            _ => {
                let extra = Extra::of(self.reader, &config.compaction.selection)?;
                self.cut(pass(self.reader, &tokens, config, &extra)?, config)?
            }
        };
        let compaction = start.elapsed().saturating_sub(cut.querying);
        Ok(self.briefing(task, cut, compaction))
    }

    /// One briefing of the whole cache, and the queries that it was made by.
    pub(super) fn brief_keeping(self, task: &Task, config: &BriefConfig) -> Result<(Briefing, QueryPass)> {
        let tokens = self.reader.task_tokens(task)?;
        self.reader.context.check_trajectory()?;
        let extra = Extra::of(self.reader, &config.compaction.selection)?;
        let pass = pass(self.reader, &tokens, config, &extra)?;
        let start = Instant::now();
        let cut = self.cut(pass.clone(), config)?;
        Ok((self.briefing(task, cut, start.elapsed()), pass))
    }

    /// One briefing for each task.
    pub(crate) fn brief_batch(self, tasks: &[&Task], config: &BriefConfig) -> Result<Vec<Briefing>> {
        config.validate()?;
        let tokens = self.reader.tokens_of(tasks)?;
        self.reader.context.check_trajectory()?;
        let rerotated = config.chunking.is_some_and(|chunking| chunking.mode == ChunkMode::Rerotated);
        if rerotated || config.on_policy || config.queries != QuerySource::Task {
            let alone = |(index, task): (usize, &&Task)| {
                self.brief(task, config).map_err(|error| error.in_call(index))
            };
            return tasks.iter().enumerate().map(alone).collect();
        }
        let size = self.reader.context.settings.max_batch;
        let mut briefings = Vec::with_capacity(tasks.len());
        let mut extra = Extra::of(self.reader, &config.compaction.selection)?;
        for (number, (tasks, tokens)) in tasks.chunks(size).zip(tokens.chunks(size)).enumerate() {
            let briefed = self.brief_group(tasks, tokens, &extra, config);
            extra = extra.for_free();
            briefings.extend(briefed.map_err(|error| error.in_later_call(number * size))?);
        }
        Ok(briefings)
    }

    fn brief_group(
        self,
        tasks: &[&Task],
        tokens: &[Vec<u32>],
        extra: &Extra,
        config: &BriefConfig,
    ) -> Result<Vec<Briefing>> {
        // The first one pays for what all have in common.
        let with_extra = |(number, pass): (usize, QueryPass)| {
            pass.with_extra(if number == 0 { extra.clone() } else { extra.for_free() })
        };
        let passes =
            passes(self.reader, tokens, config, extra)?.into_iter().enumerate().map(with_extra).collect();
        let start = Instant::now();
        let cut = pieces::in_place(self.reader, passes, config)?;
        let share = share(start.elapsed(), tasks.len());
        let briefed = |(index, (task, cut)): (usize, (&&Task, Result<_>))| {
            let cut = cut.map_err(|error: Error| error.in_call(index))?;
            Ok(self.briefing(task, cut, share))
        };
        tasks.iter().zip(cut).enumerate().map(briefed).collect()
    }

    /// One briefing for each configuration.
    pub(crate) fn brief_each(self, task: &Task, configs: &[BriefConfig]) -> Result<Vec<Briefing>> {
        let tokens = self.reader.task_tokens(task)?;
        self.reader.context.check_trajectory()?;
        let mut known: Vec<(PassKind, QueryPass)> = Vec::new();
        let mut extras: Vec<((bool, bool), Extra)> = Vec::new();
        let mut briefings = Vec::with_capacity(configs.len());
        for config in configs {
            // A draft is written over a briefing of its own configuration.
            let ahead = config.looks_ahead();
            let drafts = ahead
                .as_ref()
                .is_some_and(|ahead| ahead.draft_beside(&echo(self.reader.context, ahead.echo)).is_some());
            let by_task = config.queries == QuerySource::Task && !config.on_policy;
            if !by_task || drafts || config.chunking.is_some() {
                briefings.push(self.brief(task, config)?);
                continue;
            }
            config.validate()?;
            let kind = (config.compaction.score, config.task_state, ahead);
            let pass = once(&mut known, kind, || pass(self.reader, &tokens, config, &Extra::default()))?;
            let needs = config.compaction.selection.selector().needs();
            let kind = (needs.context, needs.repeat);
            let extra = once(&mut extras, kind, || Extra::of(self.reader, &config.compaction.selection))?;
            let start = Instant::now();
            let cut = self.cut(pass.with_extra(extra), config)?;
            briefings.push(self.briefing(task, cut, start.elapsed()));
        }
        Ok(briefings)
    }

    /// The full cache, cut for one task.
    fn cut(self, pass: QueryPass, config: &BriefConfig) -> Result<CutCache> {
        let mut cut = pieces::in_place(self.reader, vec![pass], config)?;
        cut.pop().unwrap_or(Err(Error::Empty { arg: "task" }))
    }

    fn briefing(self, task: &Task, cut: CutCache, compaction: Duration) -> Briefing {
        Briefing {
            kept_len: cut.cache.mean_slots(),
            cache: cut.cache,
            task: task.clone(),
            prefilled: cut.prefilled,
            kept_by: cut.kept_by,
            tokens: self.reader.context.full.tokens.clone(),
            reused: cut.reused,
            draft: cut.draft,
            report: cut.report,
            timing: BriefTiming { queries: cut.querying, compaction },
        }
    }
}

/// What was made for `kind` before, else what `make` makes, for later ones too.
fn once<K: PartialEq, V: Clone>(
    known: &mut Vec<(K, V)>,
    kind: K,
    make: impl FnOnce() -> Result<V>,
) -> Result<V> {
    if let Some((_, made)) = known.iter().find(|(other, _)| *other == kind) {
        return Ok(made.clone());
    }
    let made = make()?;
    known.push((kind, made.clone()));
    Ok(made)
}
