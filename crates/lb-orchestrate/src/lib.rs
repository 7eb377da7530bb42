//! The orchestrator's loop around a worker.
//!
//! [`Rlm`] lets an [`Orchestrator`] (a model behind an API, a local one, a program, a record) write code about long texts, turn
//! by turn; the code asks a worker, which a session of `lb-session` briefs for each prompt. What was said and run is a
//! [`RunRecord`], what it cost a [`RunLedger`].

mod error;
mod estimate;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod log;
mod orchestrator;
mod price;
mod rlm;

pub use error::{Error, Result};
pub use estimate::{Assumptions, Estimate, EstimateInputs, EstimatedRun, WorkerSpeed};
pub use log::{
    BlockResult, CallKind, ChildRecord, CodeBlock, ContextFile, Entered, Iteration, Metadata, ModelUsage,
    RunRecord, RunSettings, UsageSummary, WorkerCall,
};
#[cfg(feature = "api")]
pub use orchestrator::api;
pub use orchestrator::{
    ChatMessage, ChatRequest, Completion, Finish, LocalConfig, LocalOrchestrator, LocalThinking,
    Orchestrator, Program, ProgramResult, Reader, Replay, Role, Script, Usage,
};
pub use price::{ModelPrice, PriceTable, WorkerPrice};
pub use rlm::{
    Allowance, AnsweredCalls, Ending, Event, FinalMark, Limit, Limits, Measure, OrchestratorTotals, Phase,
    PromptProfile, Protocol, Reply, Resumed, Rlm, RlmConfig, Run, RunLedger, SandboxTotals, SharedWork,
    Spent, Stopped, WorkerTotals,
};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
