//! What can go wrong between a trajectory and an answer.

use lb_io::shown::{explained, quoted};

/// Errors of `lb-session`.
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
    /// A call was called off through its [`CancelToken`](crate::CancelToken).
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
    /// A file is no stored session, or none of this worker's.
    #[error("{}: {}", .path.display(), explained(reason))]
    Stored {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A recorded trajectory cannot be read, or says what it cannot say.
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

    /// The same fault in a batch of which only the calls `numbers` were tried.
    pub(crate) fn at_calls(self, numbers: &[usize]) -> Self {
        match self {
            Self::Call { index, source } => {
                Self::Call { index: numbers.get(index).copied().unwrap_or(index), source }
            }
            other => other,
        }
    }

    /// The fault of a batch of one call.
    pub(crate) fn of_only_call(self) -> Self {
        match self {
            Self::Call { source, .. } => *source,
            other => other,
        }
    }

    /// The model's fault with a sequence, as that of the call with that number.
    pub(crate) fn of_sequence(error: lb_model::Error, number: impl Fn(usize) -> usize) -> Self {
        match error {
            lb_model::Error::Sequence { index, source } => Self::Model(*source).in_call(number(index)),
            other => Self::Model(other),
        }
    }

    /// The model's fault with a batch of one sequence.
    pub(crate) fn of_only_sequence(error: lb_model::Error) -> Self {
        match error {
            lb_model::Error::Sequence { source, .. } => Self::Model(*source),
            other => Self::Model(other),
        }
    }

    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// Results of `lb-session`.
pub type Result<T> = std::result::Result<T, Error>;
