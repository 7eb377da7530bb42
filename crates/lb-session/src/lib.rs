#![doc = include_str!("../README.md")]

mod answer;
mod briefing;
mod context;
mod document;
mod error;
mod generate;
mod guard;
mod handoff;
mod ledger;
mod prompt;
mod queries;
mod session;
mod snapshot;
mod task;
mod trajectory;

pub use answer::{Answer, Ask, Forced, HandedText, Outcome, Prepared};
pub use briefing::{
    BriefConfig, BriefTiming, Briefing, BriefingMap, ChunkMode, Chunking, Draft, DraftOver, Learned,
    Lookahead, Position, Renewal, Renewed, Storage, TaskState, heat,
};
pub use document::{DocumentFault, read_text};
pub use error::{Error, Result};
pub use generate::{Chances, Choices};
pub use guard::CancelToken;
pub use handoff::{
    Handoff, HandoffKind, LlmLingua, LongLlmLingua, PassageOrder, SelectionSize, SelectiveContext,
    SentenceScore, SqueezeConfig, Squeezed, SummaryConfig, SummaryScope, TextUnit, relevance,
};
pub use ledger::{CallRecord, CallTimes, CallTokens, LedgerSum, TokenLedger};
pub use prompt::PromptFormat;
pub use queries::QuerySource;
pub use session::{
    BoundaryPolicy, CompactOldest, Extended, OpenSession, RoomFit, RoomPolicy, RoomReport, SegmentEntered,
    SessionConfig, SharedCaches, WorkerSession,
};
pub use snapshot::Snapshot;
pub use task::Task;
pub use trajectory::{LogFault, LogFormat, LogNote, Note, RecordedLog, Segment, Source, Trajectory};
