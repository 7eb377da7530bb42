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
mod policy;
mod price;
mod rlm;

pub use error::{Error, Result};
pub use estimate::{Assumptions, Estimate, EstimateInputs, EstimatedRun, WorkerSpeed};
pub use log::{
    BlockResult, CallKind, ChildRecord, CodeBlock, ContextFile, Entered, Iteration, ManagedPrompt, Metadata,
    ModelUsage, RunRecord, RunSettings, UsageSummary, WorkerCall,
};
#[cfg(feature = "api")]
pub use orchestrator::api;
pub use orchestrator::{
    ChatMessage, ChatRequest, Completion, Finish, LocalConfig, LocalOrchestrator, LocalThinking,
    Orchestrator, Program, ProgramResult, Reader, Replay, Role, Script, Usage,
};
pub use policy::Policies;
pub use policy::context::{
    Admitted, Form, Item, ItemKind, Kept, LeftOut, Managed, ManagerConfig, PromptView, TrajectoryManager,
    View, plan as plan_context,
};
pub use policy::memo::{AnswerMemo, MemoConfig, MemoHit, MemoKey, MemoStats, RememberedAnswer};
pub use policy::models::{
    ChainConfig, ChainReport, Choice, Difficulty, Fall, ModelChain, ModelLimits, ModelReport, ModelSpec,
    ModelUse, Rule, Service, Signals, Validation, When,
};
pub use policy::monitor::{Alert, Alerts, Monitor, RunTables, Standing, TableRow};
pub use policy::phases::{
    EarlyEnd, PhaseAllowance, PhaseBudget, PhaseMeter, PhaseStep, PhaseUse, Settled, TurnSeen,
};
pub use policy::prompts::{PromptLibrary, PromptTemplate, PromptUsed, Rendered};
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
