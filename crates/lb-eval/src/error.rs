//! What can go wrong in generation, evaluation and reports.

/// Errors of `lb-eval`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter is out of range.
    #[error("{field} = {value}: {reason}")]
    Config {
        /// The parameter.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is wanted.
        reason: &'static str,
    },
    /// The worker or its session failed.
    #[error(transparent)]
    Worker(#[from] lb_orchestrate::Error),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// Results of `lb-eval`.
pub type Result<T> = std::result::Result<T, Error>;
