//! What a handoff gives to each task.

use std::time::{Duration, Instant};

use lb_am::Protected;
use lb_am::selectors::{random_positions, recent_positions};
use lb_model::KvCache;

use super::prepared::Prepared;
use super::{Handoff, HandoffKind, Outcome};
use crate::answer::{Answer, Call, From, of_one, share};
use crate::briefing::Briefing;
use crate::ledger::{CallRecord, CallTokens};
use crate::session::WorkerSession;
use crate::{Ask, Result, Task};

/// What a task gets, whichever the handoff.
pub(super) struct Handed {
    cache: KvCache,
    /// Text that is read anew, before the task.
    before: Vec<u32>,
    seq_len: usize,
    kept_len: usize,
    brief: Duration,
    /// What it cost to make.
    cost: CallTokens,
}

impl Handed {
    pub(super) fn of_cache(cache: KvCache, seq_len: usize, brief: Duration) -> Self {
        let kept_len = cache.mean_slots();
        Self { cache, before: Vec::new(), seq_len, kept_len, brief, cost: CallTokens::default() }
    }

    fn call(self, kind: HandoffKind, task: &[u32]) -> Call {
        let Self { cache, before, seq_len, kept_len, brief, cost } = self;
        let cost = CallTokens { reused: cache.mean_slots(), ..cost };
        let from = From { handoff: kind, seq_len, kept_len, brief };
        Call::reading(cache, [&before, task].concat(), cost, from)
    }

    /// The same for each of `count` tasks; the first pays.
    fn shared(self, count: usize) -> Vec<Self> {
        let brief = share(self.brief, count);
        let one = |number: usize| Self {
            cache: self.cache.fork(),
            before: self.before.clone(),
            cost: if number == 0 { self.cost } else { CallTokens::default() },
            brief,
            ..self
        };
        (0..count).map(one).collect()
    }
}

impl WorkerSession {
    /// Answers `task` through the given handoff.
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty) for an empty task, or an empty trajectory where the handoff needs one
    /// ([`is_empty`](Self::is_empty)); [`Error::Config`](crate::Error::Config),
    /// [`Error::Compaction`](crate::Error::Compaction) for sizes out of range; [`Error::Model`](crate::Error::Model), also
    /// where what is to be read does not fit the model.
    pub fn answer_via(&mut self, handoff: &Handoff, task: impl Into<Task>) -> Result<Outcome> {
        self.answer_via_with(handoff, task, &mut Ask::new())
    }

    /// Like [`answer_via`](Self::answer_via), carried out as `ask` says.
    ///
    /// # Errors
    /// Those of [`answer_via`](Self::answer_via), [`Error::Cancelled`](crate::Error::Cancelled) and
    /// [`Error::Timeout`](crate::Error::Timeout) where `ask` ended it: nothing is recorded then, and the trajectory is as it
    /// was.
    pub fn answer_via_with(
        &mut self,
        handoff: &Handoff,
        task: impl Into<Task>,
        ask: &mut Ask<'_>,
    ) -> Result<Outcome> {
        let task = [task.into()];
        self.watched(ask, |session, ask| {
            handoff.validate()?;
            Ok(session.group_via(handoff, &task, &[0], ask).map_err(of_one)?.remove(0))
        })
    }

    /// Answers `tasks` at once. To who listens they have these numbers; in errors they are counted from 0.
    pub(crate) fn group_via(
        &mut self,
        handoff: &Handoff,
        tasks: &[Task],
        numbers: &[usize],
        ask: &mut Ask<'_>,
    ) -> Result<Vec<Outcome>> {
        let (calls, briefings) = self.calls_via(handoff, tasks)?;
        let mut briefings = briefings.into_iter();
        let answered = self.answer_calls(calls, numbers, ask)?;
        Ok(answered
            .into_iter()
            .map(|(answer, record)| Outcome::of(answer, record, briefings.next()))
            .collect())
    }

    /// What the worker would be given for `task` through `handoff`; nothing is written, and nothing recorded.
    ///
    /// # Errors
    /// Those of [`answer_via`](Self::answer_via).
    pub fn prepare(&mut self, handoff: &Handoff, task: impl Into<Task>) -> Result<Prepared> {
        handoff.validate()?;
        let (mut calls, briefings) = self.calls_via(handoff, &[task.into()]).map_err(of_one)?;
        let call = calls.remove(0);
        let ratio = call.from.kept_len as f64 / call.from.seq_len.max(1) as f64;
        let ratio = briefings.first().map_or(ratio, Briefing::keep_ratio);
        Ok(Prepared::of(call, ratio))
    }

    /// The same over a briefing that is there already.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer).
    pub fn prepare_over(&self, briefing: &Briefing, task: impl Into<Task>) -> Result<Prepared> {
        let call = self.call_over(briefing, task.into())?;
        Ok(Prepared::of(call, briefing.keep_ratio()))
    }

    /// What there is to do for each task, and the briefings where `handoff` makes some.
    fn calls_via(&mut self, handoff: &Handoff, tasks: &[Task]) -> Result<(Vec<Call>, Vec<Briefing>)> {
        if let Handoff::LatentBriefing(config) = handoff {
            let briefings = match tasks {
                [only] => vec![self.brief_as(only, config)?],
                _ => self.brief_batch(tasks, config.as_ref().clone())?,
            };
            let call = |(index, (briefing, task)): (usize, (&Briefing, &Task))| {
                self.call_over(briefing, task.clone()).map_err(|error| error.in_call(index))
            };
            let calls = briefings.iter().zip(tasks).enumerate().map(call).collect::<Result<Vec<_>>>()?;
            return Ok((calls, briefings));
        }
        let tokens = self.tokens_of(tasks)?;
        let handed = self.handed(handoff, tasks)?;
        let calls = handed.into_iter().zip(&tokens).map(|(handed, task)| handed.call(handoff.kind(), task));
        Ok((calls.collect(), Vec::new()))
    }

    /// What each task gets through `handoff`; of a briefing, which is made elsewhere, nothing.
    fn handed(&mut self, handoff: &Handoff, tasks: &[Task]) -> Result<Vec<Handed>> {
        let (start, seq_len, count) = (Instant::now(), self.held.tokens.len(), tasks.len());
        let protect = Protected::default();
        Ok(match handoff {
            Handoff::None | Handoff::LatentBriefing(_) => {
                let nothing = self.as_text(self.prompt.head.clone());
                Handed { kept_len: 0, ..nothing }.shared(count)
            }
            Handoff::TextReplay => self.as_text(self.text.tokens.clone()).shared(count),
            Handoff::Notes => self.as_text(self.notes_text()?).shared(count),
            Handoff::Summary(config) => self.summarised(config, tasks)?,
            Handoff::Bm25 { size, passage } => self.retrieved(*size, *passage, tasks)?,
            Handoff::FullKv => {
                Handed::of_cache(self.held.cache.fork(), seq_len, Duration::ZERO).shared(count)
            }
            Handoff::Recent(size) => {
                let kept = recent_positions(seq_len, size.resolve(seq_len)?, protect);
                Handed::of_cache(self.only(&kept)?, seq_len, start.elapsed()).shared(count)
            }
            Handoff::Random { size, seed } => {
                let kept = random_positions(seq_len, size.resolve(seq_len)?, protect, *seed);
                Handed::of_cache(self.only(&kept)?, seq_len, start.elapsed()).shared(count)
            }
        })
    }

    /// Text in the trajectory's place, template head first.
    fn as_text(&self, before: Vec<u32>) -> Handed {
        Handed {
            cache: self.worker.model().new_cache(),
            kept_len: before.len(),
            before,
            seq_len: self.text.tokens.len(),
            brief: Duration::ZERO,
            cost: CallTokens::default(),
        }
    }

    /// The same that cost something to make.
    pub(super) fn as_made_text(&self, before: Vec<u32>, brief: Duration, cost: CallTokens) -> Handed {
        Handed { brief, cost, ..self.as_text(before) }
    }

    /// The same for all of `count` tasks.
    pub(super) fn as_common_text(
        &self,
        before: Vec<u32>,
        brief: Duration,
        cost: CallTokens,
        count: usize,
    ) -> Vec<Handed> {
        self.as_made_text(before, brief, cost).shared(count)
    }
}

impl Outcome {
    fn of(answer: Answer, record: CallRecord, briefing: Option<Briefing>) -> Self {
        let ratio = record.kept_len as f64 / record.seq_len.max(1) as f64;
        let keep_ratio = briefing.as_ref().map_or(ratio, Briefing::keep_ratio);
        Self { answer, kept_len: record.kept_len, keep_ratio, brief: record.times.brief, briefing, record }
    }
}
