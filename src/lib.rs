#![doc = include_str!("../README.md")]

pub use lb_am as am;
pub use lb_eval as eval;
pub use lb_explain as explain;
pub use lb_io as io;
pub use lb_model as model;
pub use lb_orchestrate as orchestrate;
pub use lb_sandbox as sandbox;
pub use lb_session as session;

#[cfg(feature = "embedded")]
pub mod programs;

/// Everything the README uses.
pub mod prelude {
    pub use lb_am::{Budget, Compaction, Selection};
    pub use lb_model::{Checkpoint, GenerateOptions, Worker};
    pub use lb_session::{
        Answer, BoundaryPolicy, BriefConfig, Briefing, Chunking, Handoff, OpenSession, Outcome, QuerySource,
        Segment, SelectionSize, SessionConfig, Snapshot, Source, Task, TaskState, TokenLedger, Trajectory,
        WorkerSession,
    };
}

/// The code in docs/ is compiled as that of the README is.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../docs/evaluating.md")]
    struct Evaluating;
    #[doc = include_str!("../docs/orchestrating.md")]
    struct Orchestrating;
}
