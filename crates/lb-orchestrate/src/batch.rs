//! Several calls over one trajectory at once: one pass reads all tasks, and one pass makes a token for each.

use std::time::{Duration, Instant};

use lb_model::PrefillOptions;

use crate::brief::Asked;
use crate::briefing::{Briefing, TaskState};
use crate::chunked::ChunkMode;
use crate::queries::QuerySource;
use crate::session::{Answer, Ask, Call, WorkerSession};
use crate::{BriefConfig, Error, Handoff, Outcome, Result, Task};

impl WorkerSession {
    /// Cuts a briefing for each of `tasks`, in their order: those that [`brief_as`](Self::brief_as) cuts one by one, but
    /// for the order of summation in the passes. The tasks are read behind the trajectory together.
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
        let asked = self.asked_together(&tokens, &config)?;
        let start = Instant::now();
        let made = self.in_place_for(asked, &config)?;
        let share = share(start.elapsed(), tasks.len());
        let briefed = |(index, (task, made)): (usize, (Task, Result<_>))| {
            let made = made.map_err(|error: Error| error.in_call(index))?;
            Ok(self.briefing(task, made, share))
        };
        tasks.into_iter().zip(made).enumerate().map(briefed).collect()
    }

    /// The tasks' own queries, of one pass over all of them.
    fn asked_together(&self, tokens: &[Vec<u32>], config: &BriefConfig) -> Result<Vec<Asked>> {
        let (start, model) = (Instant::now(), self.worker.model());
        let mut forks: Vec<_> = tokens.iter().map(|_| self.cache.fork()).collect();
        let captured =
            model.prefill_capturing_batch(tokens, &mut forks, &self.config.prefill, &mut |_, _| {});
        let captured = captured.map_err(|error| of_call(error, &|index| index))?;
        let mut asked = Vec::with_capacity(tokens.len());
        for ((captured, fork), tokens) in captured.into_iter().zip(&forks).zip(tokens) {
            let reused = match config.task_state {
                TaskState::Reuse => Some(self.reused(fork, tokens.len(), captured.logits)?),
                TaskState::Recompute => None,
            };
            let (queries, prefilled) = (captured.queries, tokens.len());
            asked.push(Asked { queries, observed: None, reused, prefilled, elapsed: Duration::ZERO });
        }
        let elapsed = share(start.elapsed(), tokens.len());
        Ok(asked.into_iter().map(|asked| Asked { elapsed, ..asked }).collect())
    }

    /// Answers each task over the briefing beside it, all at once; a briefing may serve several tasks. Answers, their
    /// token counts and the entries of the ledger are those of [`answer`](Self::answer) one by one, in this order.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer) as [`Error::Call`] with the number of the call. Nothing is recorded then.
    pub fn answer_batch<'b, T: Into<Task>>(
        &mut self,
        calls: impl IntoIterator<Item = (&'b Briefing, T)>,
    ) -> Result<Vec<Answer>> {
        let call = |(index, (briefing, task)): (usize, (&Briefing, T))| {
            self.call_over(briefing, task.into()).map_err(|error| error.in_call(index))
        };
        let calls = calls.into_iter().enumerate().map(call).collect::<Result<Vec<_>>>()?;
        self.answer_calls(calls)
    }

    /// Answers all of `tasks` through the same handoff at once: the outcomes of [`answer_via`](Self::answer_via) one by
    /// one, in this order. What the tasks have in common is made once: a selection, and with [`Handoff::FullKv`] the
    /// cache, which all attend to together. Times of a briefing or a selection are equal shares of the batch's.
    ///
    /// # Errors
    /// Those of [`answer_via`](Self::answer_via); what is wrong with one task is an [`Error::Call`] with its number.
    /// Nothing is recorded then.
    pub fn answer_via_batch<T: Into<Task>>(
        &mut self,
        handoff: &Handoff,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Outcome>> {
        let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
        if let Handoff::LatentBriefing(config) = handoff {
            let briefings = self.brief_batch(&tasks, config.as_ref().clone())?;
            let answers = self.answer_batch(briefings.iter().zip(tasks))?;
            return Ok(answers.into_iter().zip(briefings).map(|(a, b)| Outcome::briefed(a, b)).collect());
        }
        let tokens = self.tokens_of(&tasks)?;
        let handed = self.handed(handoff)?;
        let answers = self.answer_calls(tokens.iter().map(|task| handed.call(task)).collect())?;
        let brief = share(handed.brief, tasks.len());
        Ok(answers.into_iter().map(|answer| handed.outcome(answer, brief)).collect())
    }

    fn tokens_of(&self, tasks: &[Task]) -> Result<Vec<Vec<u32>>> {
        let tokens =
            |(index, task)| self.prompt.task(&self.worker, task).map_err(|error| error.in_call(index));
        tasks.iter().enumerate().map(tokens).collect()
    }

    fn answer_calls(&mut self, calls: Vec<Call>) -> Result<Vec<Answer>> {
        let start = Instant::now();
        let mut caches = Vec::with_capacity(calls.len());
        let (mut prompts, mut costs, mut logits) = (Vec::new(), Vec::new(), Vec::new());
        for (index, Call { cache, prompt, cost }) in calls.into_iter().enumerate() {
            caches.push(cache);
            costs.push(cost);
            match prompt {
                Ask::Read(own) => logits.push(Some(own)),
                Ask::Tokens(tokens) => {
                    logits.push(None);
                    prompts.push((index, tokens));
                }
            }
        }
        let numbers: Vec<usize> = prompts.iter().map(|(index, _)| *index).collect();
        let tokens: Vec<&[u32]> = prompts.iter().map(|(_, tokens)| tokens.as_slice()).collect();
        let mut unread: Vec<_> =
            caches.iter_mut().zip(&logits).filter(|(_, own)| own.is_none()).map(|(cache, _)| cache).collect();
        let (worker, read) = (self.worker.clone(), PrefillOptions::default());
        let made = worker.model().prefill_batch(&tokens, &mut unread, &read, &mut |_, _| {});
        let made = made.map_err(|error| of_call(error, &|index| numbers[index]))?;
        for (index, made) in numbers.iter().zip(made) {
            logits[*index] = Some(made);
        }
        let logits: Vec<_> = logits.into_iter().flatten().collect();
        let prefill = start.elapsed();
        let options = vec![self.config.generate.clone(); caches.len()];
        let generations =
            worker.generate_batch_from_logits(&mut caches, &logits, &options, &mut |_, _, _| true);
        let generations = generations.map_err(|error| of_call(error, &|index| index))?;
        let finished = generations.iter().zip(costs);
        Ok(finished.map(|(made, cost)| self.finish(made, cost, prefill + made.decode)).collect())
    }
}

/// An error of the model, by the number of the call rather than that of the sequence.
fn of_call(error: lb_model::Error, number: &dyn Fn(usize) -> usize) -> Error {
    match error {
        lb_model::Error::Sequence { index, source } => Error::Model(*source).in_call(number(index)),
        other => Error::Model(other),
    }
}

fn share(whole: Duration, of: usize) -> Duration {
    whole / u32::try_from(of.max(1)).unwrap_or(u32::MAX)
}
