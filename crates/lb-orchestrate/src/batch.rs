//! Several calls over one trajectory at once: one pass reads all tasks, and one pass makes a token for each.

use std::time::{Duration, Instant};

use crate::answer::{of_call, share};
use crate::brief::Asked;
use crate::briefing::{Briefing, TaskState};
use crate::chunked::ChunkMode;
use crate::queries::{Extra, QuerySource};
use crate::session::WorkerSession;
use crate::{Answer, Ask, BriefConfig, Error, Handoff, Outcome, Result, Task};

impl WorkerSession {
    /// Cuts a briefing for each of `tasks`, in their order: those that [`brief_as`](Self::brief_as) cuts one by one, but
    /// for the order of summation in the passes. The tasks are read behind the trajectory together, as many at a time as
    /// [`SessionConfig::max_batch`](crate::SessionConfig::max_batch) says.
    ///
    /// Queries from elsewhere than the task, on-policy ones and chunks that are read on their own are made task by task.
    /// In [`Briefing::timing`] each has an equal share of what the batch took.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")] {
    /// use lb_am::Compaction;
    /// use lb_model::Worker;
    /// use lb_orchestrate::{OpenSession, Segment};
    ///
    /// let mut session = Worker::embedded()?.session()?;
    /// session.extend(Segment::finding("The Oslo ledger is kept by Ana."))?;
    /// let tasks = ["Who keeps the Oslo ledger?", "What does Ana keep?"];
    /// let briefings = session.brief_batch(tasks, Compaction::keep_ratio(0.5))?;
    /// let answers = session.answer_batch(briefings.iter().zip(tasks))?;
    /// assert_eq!(answers.len(), 2);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`brief_as`](Self::brief_as); what is wrong with one task is an [`Error::Call`] with its number.
    pub fn brief_batch<T: Into<Task>>(
        &self,
        tasks: impl IntoIterator<Item = T>,
        config: impl Into<BriefConfig>,
    ) -> Result<Vec<Briefing>> {
        let config = config.into();
        config.validate()?;
        let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
        let tokens = self.tokens_of(&tasks)?;
        self.check_trajectory()?;
        let rerotated = config.chunking.is_some_and(|chunking| chunking.mode == ChunkMode::Rerotated);
        if rerotated || config.on_policy || config.queries != QuerySource::Task {
            let alone = |(index, task)| self.brief_as(task, &config).map_err(|error| error.in_call(index));
            return tasks.into_iter().enumerate().map(alone).collect();
        }
        let (size, mut briefings) = (self.config.max_batch, Vec::with_capacity(tasks.len()));
        let mut extra = self.extra_queries(&config.compaction.selection)?;
        for (number, (tasks, tokens)) in tasks.chunks(size).zip(tokens.chunks(size)).enumerate() {
            let briefed = self.brief_group(tasks, tokens, &extra, &config);
            extra = extra.for_free();
            briefings.extend(briefed.map_err(|error| error.in_later_call(number * size))?);
        }
        Ok(briefings)
    }

    fn brief_group(
        &self,
        tasks: &[Task],
        tokens: &[Vec<u32>],
        extra: &Extra,
        config: &BriefConfig,
    ) -> Result<Vec<Briefing>> {
        let asked = self.asked_together(tokens, config)?;
        // The first one pays for what all have in common.
        let with_extra = |(number, asked): (usize, Asked)| {
            asked.with_extra(if number == 0 { extra.clone() } else { extra.for_free() })
        };
        let asked = asked.into_iter().enumerate().map(with_extra).collect();
        let start = Instant::now();
        let made = self.in_place_for(asked, config)?;
        let share = share(start.elapsed(), tasks.len());
        let briefed = |(index, (task, made)): (usize, (&Task, Result<_>))| {
            let made = made.map_err(|error: Error| error.in_call(index))?;
            Ok(self.briefing(task.clone(), made, share))
        };
        tasks.iter().zip(made).enumerate().map(briefed).collect()
    }

    /// The tasks' own queries, of one pass over all of them.
    fn asked_together(&self, tokens: &[Vec<u32>], config: &BriefConfig) -> Result<Vec<Asked>> {
        let (start, model) = (Instant::now(), self.worker.model());
        let mut forks: Vec<_> = tokens.iter().map(|_| self.held.cache.fork()).collect();
        let (options, mut go_on) = (&self.config.prefill, |_, _| self.watch.goes_on());
        let captured = model.prefill_capturing_batch_while(tokens, &mut forks, options, &mut go_on);
        let captured = captured.map_err(|error| of_call(error, &|index| index))?;
        let mut asked = Vec::with_capacity(tokens.len());
        for ((captured, fork), tokens) in captured.into_iter().zip(&forks).zip(tokens) {
            let reused = match config.task_state {
                TaskState::Reuse => Some(self.reused(fork, tokens.len(), captured.logits)?),
                TaskState::Recompute => None,
            };
            let (queries, prefilled) = (captured.queries, tokens.len());
            let (extra, elapsed) = (Extra::default(), Duration::ZERO);
            asked.push(Asked { queries, observed: None, extra, reused, prefilled, elapsed });
        }
        let elapsed = share(start.elapsed(), tokens.len());
        Ok(asked.into_iter().map(|asked| Asked { elapsed, ..asked }).collect())
    }

    /// Answers each task over the briefing beside it, as many at once as
    /// [`SessionConfig::max_batch`](crate::SessionConfig::max_batch) says; a briefing may serve several tasks. Answers,
    /// their token counts and the entries of the ledger are those of [`answer`](Self::answer) one by one, in this order.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer) as [`Error::Call`] with the number of the call. Nothing is recorded then.
    pub fn answer_batch<'b, T: Into<Task>>(
        &mut self,
        calls: impl IntoIterator<Item = (&'b Briefing, T)>,
    ) -> Result<Vec<Answer>> {
        let calls: Vec<(&Briefing, Task)> =
            calls.into_iter().map(|(briefing, task)| (briefing, task.into())).collect();
        self.whole_batch(calls.len(), |session, numbers| {
            let calls = &calls[numbers[0]..=numbers[numbers.len() - 1]];
            let call = |(index, (briefing, task)): (usize, &(&Briefing, Task))| {
                session.call_over(briefing, task.clone()).map_err(|error| error.in_call(index))
            };
            let calls = calls.iter().enumerate().map(call).collect::<Result<Vec<_>>>()?;
            let answered = session.answer_calls(calls, numbers, &mut Ask::new())?;
            Ok(answered.into_iter().map(|(answer, _)| answer).collect())
        })
    }

    /// Answers all of `tasks` through the same handoff, as many at once as
    /// [`SessionConfig::max_batch`](crate::SessionConfig::max_batch) says: the outcomes of
    /// [`answer_via`](Self::answer_via) one by one, in this order. What the tasks have in common is made once: a selection,
    /// a summary of the trajectory, and with [`Handoff::FullKv`] the cache, which all attend to together. Times are shares
    /// of the batch's, see [`CallTimes`](crate::CallTimes); tokens of a common summary are the first call's.
    ///
    /// # Errors
    /// Those of [`answer_via`](Self::answer_via); what is wrong with one task is an [`Error::Call`] with its number.
    /// Nothing is recorded then. [`answer_each_via`](Self::answer_each_via) answers the others all the same.
    pub fn answer_via_batch<T: Into<Task>>(
        &mut self,
        handoff: &Handoff,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Outcome>> {
        self.answer_via_batch_with(handoff, tasks, &mut Ask::new())
    }

    /// Like [`answer_via_batch`](Self::answer_via_batch), carried out as `ask` says.
    ///
    /// # Errors
    /// Those of [`answer_via_batch`](Self::answer_via_batch), [`Error::Cancelled`] and [`Error::Timeout`] where `ask` ended
    /// it.
    pub fn answer_via_batch_with<T: Into<Task>>(
        &mut self,
        handoff: &Handoff,
        tasks: impl IntoIterator<Item = T>,
        ask: &mut Ask<'_>,
    ) -> Result<Vec<Outcome>> {
        handoff.validate()?;
        let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
        // What can be told before anything is computed.
        self.tokens_of(&tasks)?;
        self.watched(ask, |session, ask| {
            session.whole_batch(tasks.len(), |session, numbers| {
                session.group_via(handoff, &tasks[numbers[0]..=numbers[numbers.len() - 1]], numbers, ask)
            })
        })
    }

    /// Answers `0..count` group by group, each of consecutive numbers; records all or nothing.
    fn whole_batch<R>(
        &mut self,
        count: usize,
        mut group: impl FnMut(&mut Self, &[usize]) -> Result<Vec<R>>,
    ) -> Result<Vec<R>> {
        let (recorded, mut all) = (self.ledger.calls().len(), Vec::with_capacity(count));
        for from in (0..count).step_by(self.config.max_batch) {
            let to = from.saturating_add(self.config.max_batch).min(count);
            match group(self, &(from..to).collect::<Vec<_>>()) {
                Ok(done) => all.extend(done),
                Err(error) => {
                    self.ledger.take_back(recorded);
                    return Err(error.in_later_call(from));
                }
            }
        }
        Ok(all)
    }

    pub(crate) fn tokens_of(&self, tasks: &[Task]) -> Result<Vec<Vec<u32>>> {
        let tokens = |(index, task)| {
            self.prompt.task(&self.worker, task, &self.watch).map_err(|error| error.in_call(index))
        };
        tasks.iter().enumerate().map(tokens).collect()
    }
}
