//! Who decides what happens next: the orchestrator's side of the loop.

mod document;
mod program;

pub use document::{DocumentWalk, Probe};
pub use program::Program;

use crate::session::{Answer, WorkerSession};
use crate::{Error, Handoff, Result, Segment, Task};

/// What an orchestrator does next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Append to the trajectory.
    Log(Segment),
    /// Ask the worker about a slice of the document alone; the trajectory stays out of it.
    Ask(Task),
    /// Ask the worker something that takes the trajectory; it travels by the run's [`Handoff`].
    AskBriefed(Task),
    /// The work is done.
    Finish(String),
}

/// Something that works through a problem and may ask a worker on the way: a program, or a language model.
pub trait Orchestrator {
    /// The next step, given what the worker answered to the last one, if that was a question.
    ///
    /// # Errors
    /// Whatever went wrong inside; it ends the run as [`Error::Orchestrator`].
    fn next(
        &mut self,
        reply: Option<&Answer>,
    ) -> std::result::Result<Step, Box<dyn std::error::Error + Send + Sync>>;
}

/// A question that took the trajectory, and what came back.
#[derive(Clone, Debug)]
pub struct BriefedReply {
    /// What was asked.
    pub task: Task,
    /// What the worker said.
    pub answer: Answer,
    /// Share of the trajectory that it could attend to.
    pub keep_ratio: f64,
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the orchestrator finished with.
    pub answer: String,
    /// Every question that took the trajectory.
    pub briefed: Vec<BriefedReply>,
    /// Steps taken.
    pub steps: usize,
}

/// Runs `orchestrator` until it finishes. The trajectory and all token counts are in `session`; `on_step` hears every
/// step before it is carried out.
///
/// # Errors
/// [`Error::StepLimit`] after `max_steps`, [`Error::Orchestrator`], and those of the session's calls. What was logged
/// until then stays in the session.
pub fn run(
    orchestrator: &mut dyn Orchestrator,
    session: &mut WorkerSession,
    handoff: &Handoff,
    max_steps: usize,
    on_step: &mut dyn FnMut(&Step),
) -> Result<Run> {
    let mut reply: Option<Answer> = None;
    let mut briefed = Vec::new();
    for steps in 1..=max_steps {
        let step = orchestrator.next(reply.as_ref()).map_err(Error::Orchestrator)?;
        on_step(&step);
        reply = match step {
            Step::Log(segment) => {
                session.extend(segment)?;
                None
            }
            Step::Ask(task) => Some(session.answer_via(&Handoff::None, task)?.answer),
            Step::AskBriefed(task) => {
                let outcome = session.answer_via(handoff, &task)?;
                let (answer, keep_ratio) = (outcome.answer, outcome.keep_ratio);
                briefed.push(BriefedReply { task, answer: answer.clone(), keep_ratio });
                Some(answer)
            }
            Step::Finish(answer) => return Ok(Run { answer, briefed, steps }),
        };
    }
    Err(Error::StepLimit { steps: max_steps })
}
