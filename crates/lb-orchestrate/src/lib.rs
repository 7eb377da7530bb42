//! Trajectories, briefings, worker sessions and the orchestrator loop.
//!
//! An orchestrator's findings are appended to a [`WorkerSession`]; the worker's full KV cache of them grows by the
//! new tokens only. Before each call a [`Briefing`] is cut from that cache for the task at hand, and the worker
//! answers over the briefing. [`Handoff`] puts every alternative behind the same call, and [`TokenLedger`] counts.

mod answer;
mod ask;
mod batch;
mod brief;
mod brief_config;
mod briefing;
mod cancel;
mod choices;
mod chunked;
mod document;
mod each;
mod error;
mod estimate;
pub mod explain;
mod extend;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handoff;
mod ledger;
mod log;
mod merge;
mod on_policy;
mod orchestrator;
mod policy;
mod price;
mod prompt;
mod queries;
mod repl;
mod rlm;
mod room;
mod session;
mod shared_work;
mod study;
mod trajectory;
mod units;

pub use answer::Answer;
pub use ask::{Ask, OnText};
pub use brief_config::BriefConfig;
pub use briefing::{BriefTiming, Briefing, Position, TaskState};
pub use cancel::CancelToken;
pub use choices::{Chances, Choices};
pub use chunked::{ChunkMode, Chunking};
pub use document::{DocumentFault, read_text};
pub use error::{Error, Result};
pub use estimate::{Assumptions, Estimate, EstimateInputs, EstimatedRun, WorkerSpeed};
pub use extend::{Extended, SegmentEntered};
pub use handoff::{
    Handoff, HandoffKind, Note, Outcome, Prepared, SelectionSize, SummaryConfig, SummaryScope,
};
pub use ledger::{CallRecord, CallTimes, CallTokens, LedgerSum, TokenLedger};
pub use log::{
    BlockResult, BriefingMap, CallKind, ChildRecord, CodeBlock, ContextFile, Entered, Iteration, Metadata,
    ModelUsage, RunRecord, RunSettings, UsageSummary, WorkerCall,
};
#[cfg(feature = "api")]
pub use orchestrator::api;
pub use orchestrator::{
    ChatMessage, ChatRequest, Completion, Finish, LocalConfig, LocalOrchestrator, LocalThinking,
    Orchestrator, Program, ProgramResult, Reader, Replay, Role, Script, Usage,
};
pub use policy::BoundaryPolicy;
pub use price::{ModelPrice, PriceTable, WorkerPrice};
pub use prompt::{PromptFormat, Task};
pub use queries::QuerySource;
pub use repl::{
    AnswerCell, CPythonConfig, CPythonRepl, Executed, Fault, HostCall, Query, Repl, ReplHost, ReplLimits,
};
#[cfg(feature = "monty")]
pub use repl::{MontyConfig, MontyRepl, sandbox_main};
pub use rlm::{
    Budget, Ending, Event, FinalMark, Limit, Limits, Measure, OrchestratorTotals, Phase, PromptProfile,
    Protocol, Reply, Resumed, Rlm, RlmConfig, Run, RunLedger, SandboxTotals, Spent, Stopped, WorkerTotals,
};
pub use room::{CompactOldest, RoomFit, RoomPolicy, RoomReport};
pub use session::{OpenSession, SessionConfig, WorkerSession};
pub use shared_work::SharedWork;
pub use trajectory::{LogFault, LogFormat, LogNote, RecordedLog, Segment, Source, Trajectory};
