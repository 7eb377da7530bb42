//! The record of a run: one JSON Lines file, first `metadata`, then a line for each turn. It opens in the visualizer of
//! alexzhang13/rlm; what is ours stands in extra keys. From it a run is resumed, replayed and explained.

mod read;
mod record;
mod write;

pub use read::RunRecord;
pub use record::{
    BlockResult, CallKind, ChildRecord, CodeBlock, ContextFile, Entered, Iteration, ManagedPrompt, Metadata,
    ModelUsage, RunSettings, UsageSummary, WorkerCall,
};
pub(crate) use write::RunLog;
