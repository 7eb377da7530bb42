//! What a study of compactions needs to know of a session.

use lb_am::Spans;

use crate::{Result, Task, WorkerSession};

impl WorkerSession {
    /// The tokens that a task is read as, behind the trajectory: question and template tail.
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty) for an empty task, [`Error::Model`](crate::Error::Model).
    pub fn task_tokens(&self, task: impl Into<Task>) -> Result<Vec<u32>> {
        self.prompt.task(&self.worker, &task.into(), &self.watch)
    }

    /// Positions at which the units of the trajectory's text begin, where `spans` are units.
    pub fn unit_starts(&self, spans: Spans) -> Option<Vec<u32>> {
        self.units_of(spans, 0, self.held.tokens.len())
    }
}
