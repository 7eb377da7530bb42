//! How a run ends.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::rlm::RunLedger;
use crate::{ChatMessage, Error};

/// A run that came to an answer.
#[derive(Clone, Debug)]
pub struct Run {
    /// The answer.
    pub answer: String,
    /// How it came.
    pub ending: Ending,
    /// Turns of this question.
    pub turns: usize,
    /// What the whole run cost so far, earlier questions counted in.
    pub ledger: RunLedger,
    /// Where its log is.
    pub log: Option<PathBuf>,
}

/// How an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// `answer["ready"]`, `FINAL` or `FINAL_VAR`.
    Answered,
    /// The turns were used up; the last completion was asked for it.
    LastCompletion,
    /// The last phase's budget was used up; the last completion was asked for it.
    PhasesOver,
    /// Further turns brought nothing new; the last completion was asked for it.
    Settled,
}

/// A run that ended without an answer: a limit, Ctrl-C, an error. What there was of an answer is here, and all that was
/// found out stays in the [`Rlm`](crate::Rlm) and its log.
#[derive(Debug, thiserror::Error)]
#[error("after {turns} turns: {error}")]
pub struct Stopped {
    /// What ended it.
    #[source]
    pub error: Error,
    /// What was in `answer`, else what the orchestrator said last; `None` where it had said nothing.
    pub partial: Option<String>,
    /// Turns that were carried through.
    pub turns: usize,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// What the whole run cost so far.
    pub ledger: RunLedger,
    /// Where its log is; `examples/rlm.rs --resume` goes on from it.
    pub log: Option<PathBuf>,
}
