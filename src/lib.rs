//! Share memory between agents: an orchestrator's long trajectory reaches a local worker as a *compacted KV cache*, cut for the
//! task at hand, instead of as text.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> latent_briefing::Result<()> {
//! use latent_briefing::prelude::*;
//!
//! let worker = Worker::embedded()?; // or Worker::load("path/to/folder")?, "model.gguf", with `hub` "Qwen/Qwen3-4B"
//! let mut session = worker.session()?;
//! session.extend(Segment::finding("The Velmar ledger is kept by Anara."))?;
//! session.extend(Segment::tool("Grep the Oslund beacon: no match in part 2."))?;
//! let task = "Who keeps the Velmar ledger?";
//! let briefing = session.brief(task, &Compaction::keep_ratio(0.5))?;
//! assert_eq!(session.ask(task).over(&briefing).run()?.answer.text, "Anara");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! | module | what it holds | feature |
//! |---|---|---|
//! | [`am`] | Attention Matching on plain tensors: [`compact`](am::compact) and what it is configured by | |
//! | [`model`] | decoders with an explicit KV cache, checkpoints, tokenizers, templates | `hub`: by name |
//! | [`session`] | trajectory, briefings, handoffs, answers, what they cost | `embedded`: a worker inside |
//! | [`explain`] | a briefing on a terminal and as a page; runs of the loop | |
//! | [`io`] | files written whole, text shown harmlessly | |
//! | `orchestrate`, `sandbox` | a language model or a program drives a worker turn by turn | `orchestrate`; `api`, `monty` |
//! | `eval` | recorded logs, data sets, conditions, statistics, reports | `eval`; `parquet` |
//!
//! `default` is `embedded`; `cli` is the program `latent-briefing`, `full` everything. `cuda`, `flash-attn` and `metal` choose
//! devices. Every crate has its own error; [`Error`] takes them all, so that a program of several needs one `?`. Tensors are those
//! of [`candle`].

mod error;

pub use candle_core as candle;
pub use lb_am as am;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use lb_cli as cli;
#[cfg(feature = "eval")]
pub use lb_eval as eval;
pub use lb_explain as explain;
pub use lb_io as io;
pub use lb_model as model;
#[cfg(feature = "orchestrate")]
pub use lb_orchestrate as orchestrate;
#[cfg(feature = "orchestrate")]
pub use lb_sandbox as sandbox;
#[cfg(feature = "serve")]
pub use lb_serve as serve;
pub use lb_session as session;

pub use error::{Error, Result};

/// What most programs use.
pub mod prelude {
    pub use lb_am::{Budget, Compaction, Selection};
    pub use lb_model::{Checkpoint, GenerateOptions, Worker};
    pub use lb_session::{
        Answer, BoundaryPolicy, BriefConfig, Briefing, Chunking, Draft, Handoff, Lookahead, OpenSession,
        Outcome, QuerySource, Renewal, Segment, SelectionSize, SessionConfig, Snapshot, Source, Storage,
        Task, TaskState, TokenLedger, Trajectory, WorkerSession,
    };
}

/// The code of the README and of docs/ is compiled, and run where it can be.
#[cfg(all(doctest, feature = "embedded"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[cfg(feature = "eval")]
    #[doc = include_str!("../docs/evaluating.md")]
    struct Evaluating;
    #[cfg(feature = "orchestrate")]
    #[doc = include_str!("../docs/orchestrating.md")]
    struct Orchestrating;
}
