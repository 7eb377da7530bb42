//! What a study of compactions needs to know of a session.

use lb_am::Compaction;

use crate::{Result, Task, WorkerSession};

impl WorkerSession {
    /// The tokens that a task is read as, behind the trajectory: question and template tail.
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty) for an empty task, [`Error::Model`](crate::Error::Model).
    pub fn task_tokens(&self, task: impl Into<Task>) -> Result<Vec<u32>> {
        self.prompt.task(&self.worker, &task.into())
    }

    /// `compaction` with the template's head protected, as every briefing of this session is made.
    #[must_use]
    pub fn protecting_template(&self, compaction: &Compaction) -> Compaction {
        self.protecting_head(compaction)
    }
}
