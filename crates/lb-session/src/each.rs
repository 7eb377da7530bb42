//! Several calls at once of which some may fail.

use crate::session::WorkerSession;
use crate::{Ask, Error, Handoff, Outcome, Result, Task};

impl WorkerSession {
    /// Like [`answer_via_batch`](Self::answer_via_batch), with a result for each task: what is wrong with one of them
    /// leaves the others their answers, which are still made together. Where `ask` ends the calls, those that are done keep
    /// their outcomes.
    pub fn answer_each_via<T: Into<Task>>(
        &mut self,
        handoff: &Handoff,
        tasks: impl IntoIterator<Item = T>,
        ask: &mut Ask<'_>,
    ) -> Vec<Result<Outcome>> {
        let mut all: Vec<Option<Result<Outcome>>> = Vec::new();
        self.answer_each_to(handoff, tasks, ask, &mut |number, result| {
            all.resize_with(all.len().max(number + 1), || None);
            all[number] = Some(result);
        });
        all.into_iter().flatten().collect()
    }

    /// Like [`answer_each_via`](Self::answer_each_via); `done` hears each result with the number of its task as soon as
    /// those that are answered together are done, so that a thousand briefings need not be held at once. Each task is heard
    /// of exactly once, in no order that can be relied on.
    pub fn answer_each_to<T: Into<Task>>(
        &mut self,
        handoff: &Handoff,
        tasks: impl IntoIterator<Item = T>,
        ask: &mut Ask<'_>,
        done: &mut dyn FnMut(usize, Result<Outcome>),
    ) {
        let tasks: Vec<Task> = tasks.into_iter().map(Into::into).collect();
        for from in (0..tasks.len()).step_by(self.config.max_batch) {
            let to = from.saturating_add(self.config.max_batch).min(tasks.len());
            self.each_of_group(handoff, &tasks, (from..to).collect(), ask, done);
        }
    }

    /// Answers the tasks of these numbers together; one at fault is reported and left out of the next try.
    fn each_of_group(
        &mut self,
        handoff: &Handoff,
        tasks: &[Task],
        mut numbers: Vec<usize>,
        ask: &mut Ask<'_>,
        done: &mut dyn FnMut(usize, Result<Outcome>),
    ) {
        while let Some(&first) = numbers.first() {
            let chosen: Vec<Task> = numbers.iter().map(|number| tasks[*number].clone()).collect();
            let result = self.watched(ask, |session, ask| {
                handoff.validate()?;
                session.group_via(handoff, &chosen, &numbers, ask)
            });
            match result {
                Ok(outcomes) => {
                    numbers.into_iter().zip(outcomes).for_each(|(number, outcome)| done(number, Ok(outcome)));
                    return;
                }
                Err(Error::Call { index, source }) if index < numbers.len() => {
                    done(numbers.remove(index), Err(*source));
                }
                Err(error) if numbers.len() == 1 => {
                    done(first, Err(error));
                    return;
                }
                // What ended all of them is told to each; what nobody can be blamed for is tried one by one.
                Err(_) => {
                    for number in numbers {
                        self.each_of_group(handoff, tasks, vec![number], ask, done);
                    }
                    return;
                }
            }
        }
    }
}
