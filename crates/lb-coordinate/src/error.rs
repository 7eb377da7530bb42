//! What can go wrong among workers.

/// Errors of `lb-coordinate`.
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
    /// There is no worker of this number.
    #[error("there is no worker {number}, there are {count}, counted from 0")]
    NoWorker {
        /// The number.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// A session failed.
    #[error(transparent)]
    Session(#[from] lb_session::Error),
}

impl Error {
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

impl From<lb_model::Error> for Error {
    fn from(error: lb_model::Error) -> Self {
        Self::Session(error.into())
    }
}

impl From<lb_am::Error> for Error {
    fn from(error: lb_am::Error) -> Self {
        Self::Session(error.into())
    }
}

/// Results of `lb-coordinate`.
pub type Result<T> = std::result::Result<T, Error>;
