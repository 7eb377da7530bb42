//! From a task to its briefing.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use lb_am::{CompactedLayer, Compaction, Compactor, Observed, Protected, Report, ScoreAgg};
use lb_model::{Captured, KvCache, Observing};

use crate::briefing::{BriefTiming, Briefing, ReusedTask, TaskState};
use crate::chunked::ChunkMode;
use crate::queries::{Extra, QuerySource};
use crate::session::WorkerSession;
use crate::{BriefConfig, Result, Task};

/// A compacted cache, and how it came about.
pub(crate) struct Made {
    pub(crate) cache: KvCache,
    pub(crate) kept_by: Vec<f32>,
    pub(crate) report: Report,
    pub(crate) reused: Option<ReusedTask>,
    /// Tokens that the model computed.
    pub(crate) prefilled: usize,
    /// Time until the queries were there.
    pub(crate) queries: Duration,
}

/// Queries, and what else their pass left.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) queries: Vec<Tensor>,
    /// What they saw of the whole trajectory, where that was noted.
    pub(crate) observed: Option<Vec<Observed>>,
    /// What the selection reads besides.
    pub(crate) extra: Extra,
    pub(crate) reused: Option<ReusedTask>,
    pub(crate) prefilled: usize,
    pub(crate) elapsed: Duration,
}

impl Asked {
    /// With what the selection reads besides, and what that cost.
    pub(crate) fn with_extra(self, extra: Extra) -> Self {
        let (prefilled, elapsed) = (self.prefilled + extra.prefilled, self.elapsed + extra.elapsed);
        Self { extra, prefilled, elapsed, ..self }
    }
}

impl WorkerSession {
    /// Cuts a briefing for `task`, to be answered with [`TaskState::Recompute`].
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty) for an empty task or trajectory, [`Error::Compaction`](crate::Error::Compaction) for a configuration out of range,
    /// [`Error::Model`](crate::Error::Model) where the task does not fit behind the trajectory. The session is unchanged.
    pub fn brief(&self, task: impl Into<Task>, compaction: &Compaction) -> Result<Briefing> {
        self.brief_as(task, &compaction.into())
    }

    /// Like [`brief`](Self::brief), with a choice of what becomes of the task's own state.
    ///
    /// # Errors
    /// Those of [`brief`](Self::brief).
    pub fn brief_with(
        &self,
        task: impl Into<Task>,
        compaction: &Compaction,
        state: TaskState,
    ) -> Result<Briefing> {
        self.brief_as(task, &BriefConfig::from(compaction).with_task_state(state))
    }

    /// Like [`brief`](Self::brief), with every choice there is.
    ///
    /// # Errors
    /// Those of [`brief`](Self::brief), [`Error::Config`](crate::Error::Config) for what does not go together, [`Error::Model`](crate::Error::Model) also where
    /// the queries asked for do not fit the model's positions.
    pub fn brief_as(&self, task: impl Into<Task>, config: &BriefConfig) -> Result<Briefing> {
        config.validate()?;
        let task = task.into();
        let tokens = self.prompt.task(&self.worker, &task, &self.watch)?;
        self.check_trajectory()?;
        let start = Instant::now();
        let made = match config.chunking {
            Some(chunking) if chunking.mode == ChunkMode::Rerotated => {
                self.rerotated(&tokens, &config.compaction, chunking.chunk_len)?
            }
            None if config.on_policy => self.on_policy(&tokens, config)?,
            _ => {
                let extra = self.extra_queries(&config.compaction.selection)?;
                self.in_place(self.asked(&tokens, config)?.with_extra(extra), config)?
            }
        };
        let compaction = start.elapsed().saturating_sub(made.queries);
        Ok(self.briefing(task, made, compaction))
    }

    /// A briefing of each configuration for one task, as [`brief_as`](Self::brief_as) makes them, to compare them. The task
    /// is read behind the full cache once for all that ask by it alone and score alike.
    ///
    /// # Errors
    /// Those of [`brief_as`](Self::brief_as).
    pub fn brief_each(&self, task: impl Into<Task>, configs: &[BriefConfig]) -> Result<Vec<Briefing>> {
        let task = task.into();
        let tokens = self.prompt.task(&self.worker, &task, &self.watch)?;
        self.check_trajectory()?;
        let mut passes: Vec<((ScoreAgg, TaskState), Asked)> = Vec::new();
        let mut extras: Vec<((bool, bool), Extra)> = Vec::new();
        let mut briefings = Vec::with_capacity(configs.len());
        for config in configs {
            let alone = config.queries == QuerySource::Task && !config.on_policy && config.chunking.is_none();
            if !alone {
                briefings.push(self.brief_as(&task, config)?);
                continue;
            }
            config.validate()?;
            let kind = (config.compaction.score, config.task_state);
            let known = passes.iter().find(|(other, _)| *other == kind).map(|(_, asked)| asked.clone());
            let asked = if let Some(asked) = known {
                asked
            } else {
                let asked = self.asked(&tokens, config)?;
                passes.push((kind, asked.clone()));
                asked
            };
            let needs = config.compaction.selection.selector().needs();
            let kind = (needs.context, needs.repeat);
            let known = extras.iter().find(|(other, _)| *other == kind).map(|(_, extra)| extra.clone());
            let extra = if let Some(extra) = known {
                extra
            } else {
                let extra = self.extra_queries(&config.compaction.selection)?;
                extras.push((kind, extra.clone()));
                extra
            };
            let start = Instant::now();
            let made = self.in_place(asked.with_extra(extra), config)?;
            briefings.push(self.briefing(task.clone(), made, start.elapsed()));
        }
        Ok(briefings)
    }

    pub(crate) fn briefing(&self, task: Task, made: Made, compaction: Duration) -> Briefing {
        Briefing {
            kept_len: made.cache.mean_slots(),
            cache: made.cache,
            task,
            prefilled: made.prefilled,
            kept_by: made.kept_by,
            tokens: self.held.tokens.clone(),
            reused: made.reused,
            report: made.report,
            timing: BriefTiming { queries: made.queries, compaction },
        }
    }

    /// The queries that a configuration asks for, and the task's state where it is wanted.
    pub(crate) fn asked(&self, task: &[u32], config: &BriefConfig) -> Result<Asked> {
        let start = Instant::now();
        let reuse = config.task_state == TaskState::Reuse;
        if config.queries == QuerySource::Task {
            let (Observing { captured, observed }, fork) = self.observing_pass(task, config)?;
            let reused = if reuse { Some(self.reused(&fork, task.len(), captured.logits)?) } else { None };
            let (queries, prefilled) = (captured.queries, task.len());
            let (extra, elapsed) = (Extra::default(), start.elapsed());
            return Ok(Asked { queries, observed, extra, reused, prefilled, elapsed });
        }
        let mut asked = self.gather(&config.queries, task)?;
        if reuse {
            let (captured, fork) = self.task_pass(task)?;
            asked.reused = Some(self.reused(&fork, task.len(), captured.logits)?);
            asked.prefilled += task.len();
        }
        Ok(Asked { elapsed: start.elapsed(), ..asked })
    }

    /// The task read behind the full cache; what it sees is noted on the way where that serves the compaction.
    fn observing_pass(&self, task: &[u32], config: &BriefConfig) -> Result<(Observing, KvCache)> {
        let whole = config.chunking.is_none_or(|chunking| chunking.chunk_len >= self.held.tokens.len());
        if !whole || task.len() > self.config.prefill.chunk {
            let (captured, fork) = self.task_pass(task)?;
            return Ok((Observing { captured, observed: None }, fork));
        }
        let mut fork = self.held.cache.fork();
        let observing = self.worker.model().forward_observing(task, &mut fork, config.compaction.score)?;
        Ok((observing, fork))
    }

    /// The task read behind the full cache.
    pub(crate) fn task_pass(&self, task: &[u32]) -> Result<(Captured, KvCache)> {
        let mut fork = self.held.cache.fork();
        Ok((self.capture(task, &mut fork)?, fork))
    }

    pub(crate) fn reused(&self, fork: &KvCache, task_len: usize, logits: Tensor) -> Result<ReusedTask> {
        let seq_len = self.held.tokens.len();
        Ok(ReusedTask { layers: fork.layers_range(seq_len, seq_len + task_len)?, logits })
    }

    /// What `compaction` protects of the positions `from..to`, where they are compacted alone.
    ///
    /// The template's head competes like any other text: keeping it whole costs a tenth of a briefing of 2 %, and
    /// answers were worse for it (`docs/fidelity.md`).
    pub(crate) fn protecting(&self, compaction: &Compaction, from: usize, to: usize) -> Compaction {
        let Protected { first, last } = compaction.protect;
        let protect = Protected {
            first: first.saturating_sub(from).min(to - from),
            last: last.saturating_sub(self.held.tokens.len() - to).min(to - from),
        };
        compaction.clone().with_protect(protect)
    }

    /// A compactor that knows the text: `units` from [`units_of`](Self::units_of).
    pub(crate) fn knowing<'a>(&self, compactor: Compactor<'a>, units: Option<&'a [u32]>) -> Compactor<'a> {
        let compactor = compactor.group_size(self.worker.config().group_size());
        match units {
            Some(units) => compactor.units(units),
            None => compactor,
        }
    }
}

/// The share of (layer, KV head) pairs that keep each of `seq_len` positions. Each part is compacted layers, and the
/// position of their first slot.
pub(crate) fn kept_by(parts: &[(usize, Vec<CompactedLayer>)], seq_len: usize) -> Vec<f32> {
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
