//! What can go wrong in the loop around a worker.

use lb_io::shown::{explained, quoted};

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
    /// Another process writes to it.
    #[error("{}: in use by {holder}; wait for it, or take another", path.display())]
    Locked {
        /// The file or folder.
        path: std::path::PathBuf,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// A run or a call was called off through its [`CancelToken`](lb_session::CancelToken).
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
    /// A price table cannot be read or says what it cannot say.
    #[error("{}: {}", .path.display(), explained(reason))]
    Prices {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of policies cannot be read or says what it cannot say.
    #[error("{}: {}", .path.display(), explained(reason))]
    Policies {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A library of prompts cannot be read or says what it cannot say.
    #[error("{}: {}", .path.display(), explained(reason))]
    Prompts {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A prompt cannot be made.
    #[error("prompt {}: {}", explained(name), explained(reason))]
    Prompt {
        /// The prompt, with its version where one is known.
        name: String,
        /// Why.
        reason: String,
    },
    /// The folder of remembered answers cannot be used.
    #[error("{}: {}", .path.display(), explained(reason))]
    Memo {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// None of several models gave a reply that can be used.
    #[error("no model gave a reply that can be used: {}", explained(tried))]
    NoModel {
        /// What came of each, in turn.
        tried: String,
    },
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
    /// The worker's session failed.
    #[error(transparent)]
    Session(lb_session::Error),
    /// The sandbox cannot go on.
    #[error(transparent)]
    Sandbox(lb_sandbox::Error),
    /// The orchestrator's model failed, or the input does not fit it.
    #[error(transparent)]
    Model(#[from] lb_model::Error),
}

impl Error {
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// What both mean is the same error here as there.
impl From<lb_session::Error> for Error {
    fn from(error: lb_session::Error) -> Self {
        use lb_session::Error as Session;
        match error {
            Session::Empty { arg } => Self::Empty { arg },
            Session::Config { field, value, reason } => Self::Config { field, value, reason },
            Session::Cancelled => Self::Cancelled,
            Session::Timeout { what, limit } => Self::Timeout { what, limit },
            Session::Log { path, line, reason } => Self::Log { path, line, reason },
            Session::Model(source) => Self::Model(source),
            other => Self::Session(other),
        }
    }
}

impl From<lb_sandbox::Error> for Error {
    fn from(error: lb_sandbox::Error) -> Self {
        use lb_sandbox::Error as Sandbox;
        match error {
            Sandbox::Config { field, value, reason } => Self::Config { field, value, reason },
            other => Self::Sandbox(other),
        }
    }
}

/// Results of `lb-orchestrate`.
pub type Result<T> = std::result::Result<T, Error>;
