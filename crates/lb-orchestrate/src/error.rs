//! What can go wrong between a trajectory and an answer.

use lb_model::shown::{explained, quoted};

/// Errors of `lb-orchestrate`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that must hold text or positions holds none.
    #[error("{arg} is empty")]
    Empty {
        /// The argument.
        arg: &'static str,
    },
    /// A parameter is out of range.
    #[error("{field} = {}: {reason}", quoted(value))]
    Config {
        /// The parameter.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is wanted.
        reason: &'static str,
    },
    /// A briefing that reuses its task's own keys and values was asked another task.
    #[error(
        "this briefing was made for the task {:?} and reuses its state; it cannot answer {:?}",
        quoted(made_for),
        quoted(asked)
    )]
    TaskMismatch {
        /// The task that the briefing was made for.
        made_for: String,
        /// The task that was asked.
        asked: String,
    },
    /// One of the calls of a batch is at fault; nothing was answered.
    #[error("call {index}: {source}")]
    Call {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The trajectory does not fit the model, and the policy makes no room for it. The session is unchanged.
    #[error(
        "{positions} positions are more than the {limit} that the trajectory may take (room policy: {policy})"
    )]
    NoRoom {
        /// Positions after the call, had it been carried out.
        positions: usize,
        /// Positions that the trajectory may take.
        limit: usize,
        /// The policy, by its name.
        policy: &'static str,
    },
    /// Another process writes to it.
    #[error("{}: in use by {holder}; wait for it, or take another", path.display())]
    Locked {
        /// The file or folder.
        path: std::path::PathBuf,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// A run or a call was called off through its [`CancelToken`](crate::CancelToken).
    #[error("called off")]
    Cancelled,
    /// Something took longer than it may.
    #[error("{what} took longer than {} s", .limit.as_secs_f64())]
    Timeout {
        /// What.
        what: &'static str,
        /// How long it may take.
        limit: std::time::Duration,
    },
    /// The sandbox cannot go on.
    #[error("the {kind} sandbox {}", explained(reason))]
    Repl {
        /// The kind of sandbox.
        kind: &'static str,
        /// What happened to it.
        reason: String,
    },
    /// A program that orchestrates failed.
    #[error("the orchestrator failed: {}", explained(.0))]
    Orchestrator(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A limit of a run is reached.
    #[error("{limit}")]
    Limit {
        /// Which, and by how much.
        limit: crate::Limit,
    },
    /// A recorded run was asked for more turns than it has.
    #[error("the recorded run has no turn behind its {turns}")]
    ReplayEnded {
        /// Turns that it has.
        turns: usize,
    },
    /// A log cannot be written or read, or says what it cannot say.
    #[error("{}{}: {}", .path.display(), .line.map(|line| format!(", line {line}")).unwrap_or_default(), explained(reason))]
    Log {
        /// The file.
        path: std::path::PathBuf,
        /// The line, from 1, where one is at fault.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A text file cannot be read as text.
    #[error("{}: {}", .path.display(), explained(fault))]
    Document {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it, and what to do about it.
        #[source]
        fault: Box<crate::DocumentFault>,
    },
    /// A price table cannot be read or says what it cannot say.
    #[error("{}: {}", .path.display(), explained(reason))]
    Prices {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A page's own template failed.
    #[error("the page cannot be made: {0}")]
    Page(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A list of replies has come to its end.
    #[error("all {replies} replies of the script were given")]
    ScriptEnded {
        /// How many it had.
        replies: usize,
    },
    /// A service behind an API gave no turn that can be used.
    #[cfg(feature = "api")]
    #[error("{service} at {endpoint}, {attempts} request(s): {}", explained(failure))]
    Api {
        /// The API: `openai`, `anthropic`.
        service: &'static str,
        /// Scheme, host and port.
        endpoint: String,
        /// Requests that were sent for this turn.
        attempts: usize,
        /// Why the last one failed.
        failure: Box<crate::api::Failure>,
    },
    /// The worker model failed, or the input does not fit it.
    #[error(transparent)]
    Model(#[from] lb_model::Error),
    /// Compaction failed.
    #[error(transparent)]
    Compaction(#[from] lb_am::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn in_call(self, index: usize) -> Self {
        Self::Call { index, source: Box::new(self) }
    }

    /// The same fault in a batch that began `by` calls before the one that was counted from.
    pub(crate) fn in_later_call(self, by: usize) -> Self {
        match self {
            Self::Call { index, source } => Self::Call { index: index + by, source },
            other => other,
        }
    }

    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// Results of `lb-orchestrate`.
pub type Result<T> = std::result::Result<T, Error>;
