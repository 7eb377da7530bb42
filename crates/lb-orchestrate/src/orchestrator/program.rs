//! An orchestrator written as a closure.

use super::{Orchestrator, Step};
use crate::session::Answer;

/// A closure as an orchestrator.
///
/// ```
/// use lb_orchestrate::{Program, Segment, Step};
///
/// let mut asked = false;
/// let program = Program::new(move |reply| {
///     Ok(match reply {
///         Some(answer) => Step::Finish(answer.text.clone()),
///         None if asked => Step::AskBriefed("Who keeps the Oslo ledger?".into()),
///         None => {
///             asked = true;
///             Step::Log(Segment::finding("The Oslo ledger is kept by Ana."))
///         }
///     })
/// });
/// # let _ = program;
/// ```
pub struct Program<F> {
    next: F,
}

impl<F> Program<F>
where
    F: FnMut(Option<&Answer>) -> std::result::Result<Step, Box<dyn std::error::Error + Send + Sync>>,
{
    /// Wraps a closure; see [`Orchestrator::next`].
    pub fn new(next: F) -> Self {
        Self { next }
    }
}

impl<F> std::fmt::Debug for Program<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl<F> Orchestrator for Program<F>
where
    F: FnMut(Option<&Answer>) -> std::result::Result<Step, Box<dyn std::error::Error + Send + Sync>>,
{
    fn next(
        &mut self,
        reply: Option<&Answer>,
    ) -> std::result::Result<Step, Box<dyn std::error::Error + Send + Sync>> {
        (self.next)(reply)
    }
}
