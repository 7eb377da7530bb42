//! Trajectories, briefings, worker sessions and the orchestrator loop.
//!
//! An orchestrator's findings are appended to a [`WorkerSession`]; the worker's full KV cache of them grows by the
//! new tokens only. Before each call a [`Briefing`] is cut from that cache for the task at hand, and the worker
//! answers over the briefing. [`Handoff`] puts every alternative behind the same call, and [`TokenLedger`] counts.

mod briefing;
mod error;
pub mod explain;
mod handoff;
mod ledger;
mod orchestrator;

mod prompt;
mod session;
mod study;
mod trajectory;

pub use briefing::{BriefTiming, Briefing, Position, TaskState};
pub use error::{Error, Result};
pub use handoff::{Handoff, Outcome, SelectionSize};
pub use ledger::{CallTokens, TokenLedger};
pub use orchestrator::{BriefedReply, DocumentWalk, Orchestrator, Probe, Program, Run, Step, run};
pub use prompt::{PromptFormat, Task};
pub use session::{Answer, OpenSession, SessionConfig, WorkerSession};
pub use trajectory::{BoundaryPolicy, Segment, Source, Trajectory};
