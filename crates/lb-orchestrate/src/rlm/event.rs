//! What a run tells while it goes on.

use lb_sandbox::{Executed, Query};

use crate::log::{CallKind, Entered, WorkerCall};
use crate::{Alert, Completion, Limit, Managed, PhaseAllowance};

/// A step of a run, told as it happens.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A turn begins: its number, and how many there may be. A number past that is the last completion.
    TurnBegan {
        /// From 1.
        turn: usize,
        /// The limit.
        of: usize,
    },
    /// The orchestrator has said something.
    Replied(&'a Completion),
    /// A segment has entered the trajectory.
    Entered(&'a Entered),
    /// A block of code begins to run.
    CodeBegan(&'a str),
    /// Its functions are called.
    CallsBegan {
        /// What they are.
        kind: CallKind,
        /// What is asked.
        queries: &'a [Query],
        /// How deep in recursive queries; 0 is the run itself.
        depth: usize,
    },
    /// A call has ended.
    CallEnded(&'a WorkerCall),
    /// A breaker has opened: from now on calls are refused.
    BreakerOpened(&'a Limit),
    /// The prompt of a turn is not the whole conversation.
    PromptManaged(&'a Managed),
    /// A share of a budget is gone.
    Alert(&'a Alert),
    /// A phase of the question has begun.
    PhaseBegan {
        /// Its name.
        name: &'a str,
        /// What it may use up.
        allowance: &'a PhaseAllowance,
    },
    /// A block of code has ended.
    CodeEnded(&'a Executed),
    /// There is an answer.
    Answered(&'a str),
}
