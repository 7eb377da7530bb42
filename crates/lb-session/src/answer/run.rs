//! What was asked, answered.

use super::answerer::Answerer;
use super::ask::{Ask, Plan};
use super::{Outcome, Prepared};
use crate::context::Reader;
use crate::generate::Hear;
use crate::{Error, Result, Task};

impl Ask<'_> {
    /// Answers the task.
    ///
    /// # Errors
    /// - [`Error::Empty`] for an empty task, or an empty trajectory where the handoff needs one
    ///   ([`is_empty`](crate::Snapshot::is_empty));
    /// - [`Error::Config`] and [`Error::Compaction`] for what is out of range;
    /// - [`Error::TaskMismatch`] where a briefing reuses the state of another task;
    /// - [`Error::Cancelled`] and [`Error::Timeout`] where the call was ended;
    /// - [`Error::Model`], also where what is to be read does not fit the model.
    ///
    /// Nothing is recorded then, and the trajectory is as it was.
    pub fn run(self) -> Result<Outcome> {
        Ok(self.alone().run().map_err(Error::of_only_call)?.remove(0))
    }

    /// What the worker would be given; nothing is written, and nothing recorded.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn prepare(self) -> Result<Prepared> {
        let Ask { asked, plan } = self.alone();
        let guard = plan.guard();
        let answerer = plan.answerer(&guard, &asked);
        let calls = answerer.check().and_then(|()| answerer.calls(&[0]));
        let calls = calls.map_err(|error| guard.explain(error).of_only_call());
        Ok(Prepared::of(calls?.remove(0)))
    }
}

impl<'a> Ask<'a> {
    pub(super) fn alone(self) -> Ask<'a, Vec<Task>> {
        Ask { asked: vec![self.asked], plan: self.plan }
    }
}

impl Ask<'_, Vec<Task>> {
    /// Answers all tasks, as many at once as [`SessionConfig::max_batch`](crate::SessionConfig::max_batch) says: the
    /// outcomes of one call for each, in this order. What the tasks have in common is made once: a selection, a summary of
    /// the trajectory, and with [`Handoff::FullKv`](crate::Handoff::FullKv) the cache, which all attend to together. Times
    /// are shares of the batch's, see [`CallTimes`](crate::CallTimes); tokens of a common summary are the first call's.
    ///
    /// # Errors
    /// Those of one call; what is wrong with one task is an [`Error::Call`] with its number. Nothing is recorded then.
    /// [`run_each`](Self::run_each) answers the others all the same.
    pub fn run(self) -> Result<Vec<Outcome>> {
        let Self { asked, mut plan } = self;
        let mut on_text = plan.on_text.take();
        let mut hear = |number: usize, text: &str| on_text.as_mut().is_none_or(|hear| hear(number, text));
        let guard = plan.guard();
        let outcomes = all(&plan.answerer(&guard, &asked), &mut hear);
        let outcomes = outcomes.map_err(|error| guard.explain(error))?;
        for (task, outcome) in asked.iter().zip(&outcomes) {
            plan.record(task, outcome);
        }
        Ok(outcomes)
    }

    /// Like [`run`](Self::run), with a result for each task: what is wrong with one of them leaves the others their answers,
    /// which are still made together. Where the calls are ended, those that are done keep their outcomes.
    pub fn run_each(self) -> Vec<Result<Outcome>> {
        let mut all: Vec<Option<Result<Outcome>>> = Vec::new();
        all.resize_with(self.asked.len(), || None);
        self.run_each_to(|number, result| all[number] = Some(result));
        all.into_iter().flatten().collect()
    }

    /// Like [`run_each`](Self::run_each); `done` hears each result with the number of its task as soon as those that are
    /// answered together are done, so that a thousand briefings need not be held at once. Each task is heard of exactly
    /// once, in no order that can be relied on.
    pub fn run_each_to(self, mut done: impl FnMut(usize, Result<Outcome>)) {
        let Self { asked, mut plan } = self;
        let mut ledger = plan.ledger.take();
        let mut on_text = plan.on_text.take();
        let mut hear = |number: usize, text: &str| on_text.as_mut().is_none_or(|hear| hear(number, text));
        let guard = plan.guard();
        let answerer = plan.answerer(&guard, &asked);
        for numbers in answerer.groups() {
            answerer.each(numbers, &mut hear, &mut |number, result: Result<Outcome>| {
                if let (Ok(outcome), Some(ledger)) = (&result, &mut ledger) {
                    ledger.record(outcome.record);
                    plan.remember(&asked[number], outcome);
                }
                done(number, result);
            });
        }
    }
}

/// All answers, or the first fault.
fn all(answerer: &Answerer<'_>, hear: Hear<'_>) -> Result<Vec<Outcome>> {
    answerer.check()?;
    let mut groups = answerer.groups().peekable();
    if answerer.tasks.len() > groups.peek().map_or(0, Vec::len) {
        // A later group's fault that can be told before anything is computed.
        answerer.reader.tokens_of(&answerer.tasks.iter().collect::<Vec<_>>())?;
    }
    let mut outcomes = Vec::with_capacity(answerer.tasks.len());
    for numbers in groups {
        let answered = answerer.group(&numbers, hear);
        outcomes.extend(answered.map_err(|error| error.in_later_call(numbers[0]))?);
    }
    Ok(outcomes)
}

impl Plan<'_> {
    fn record(&mut self, task: &Task, outcome: &Outcome) {
        if let Some(ledger) = &mut self.ledger {
            ledger.record(outcome.record);
            self.remember(task, outcome);
        }
    }

    /// For the queries of later briefings. A session remembers, a snapshot is what it was.
    fn remember(&self, task: &Task, outcome: &Outcome) {
        let context = self.context;
        let answer = context.worker().tokenizer().encode_text(&outcome.answer.text);
        if let (Ok(task), Ok(answer)) = (Reader::unguarded(context).task_tokens(task), answer) {
            context.earlier.remember(&task, answer);
        }
    }
}
