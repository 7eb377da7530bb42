//! A worker with an orchestrator's trajectory in its cache: briefings, handoffs, answers.
//!
//! Findings are appended to a [`WorkerSession`]; the worker's full KV cache of them grows by the new tokens only. Before each
//! call a [`Briefing`] is cut from that cache for the task at hand, and the worker answers over the briefing. [`Handoff`]
//! puts every alternative behind the same call, and [`TokenLedger`] counts.

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
mod extend;
mod handoff;
mod ledger;
mod map;
mod merge;
mod on_policy;
mod policy;
mod prompt;
mod queries;
mod room;
mod session;
mod shared;
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
pub use extend::{Extended, SegmentEntered};
pub use handoff::{
    Handoff, HandoffKind, Note, Outcome, Prepared, SelectionSize, SummaryConfig, SummaryScope,
};
pub use ledger::{CallRecord, CallTimes, CallTokens, LedgerSum, TokenLedger};
pub use map::{BriefingMap, heat};
pub use policy::BoundaryPolicy;
pub use prompt::{PromptFormat, Task};
pub use queries::QuerySource;
pub use room::{CompactOldest, RoomFit, RoomPolicy, RoomReport};
pub use session::{OpenSession, SessionConfig, WorkerSession};
pub use shared::SharedCaches;
pub use trajectory::{LogFault, LogFormat, LogNote, RecordedLog, Segment, Source, Trajectory};
