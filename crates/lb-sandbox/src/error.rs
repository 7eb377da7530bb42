//! What can go wrong with a sandbox, beside what the code in it does wrong.

use lb_io::shown::{explained, quoted};

/// Errors of `lb-sandbox`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name or a limit that no session can have.
    #[error("{field} = {}: {reason}", quoted(value))]
    Config {
        /// The parameter.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is wanted.
        reason: &'static str,
    },
    /// The sandbox cannot go on.
    #[error("the {kind} sandbox {}", explained(reason))]
    Repl {
        /// The kind of sandbox.
        kind: &'static str,
        /// What happened to it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// Results of `lb-sandbox`.
pub type Result<T> = std::result::Result<T, Error>;
