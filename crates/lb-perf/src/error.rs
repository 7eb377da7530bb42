//! What can go wrong in a measurement.

use std::path::{Path, PathBuf};

use lb_io::files::write_whole;
use lb_io::shown::quoted;

/// Errors of `lb-perf`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A model could not be loaded or run.
    #[error(transparent)]
    Model(#[from] lb_model::Error),
    /// A compaction failed.
    #[error(transparent)]
    Compaction(#[from] lb_am::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// Results of `lb-perf`.
pub type Result<T> = std::result::Result<T, Error>;

/// Writes a whole file or nothing.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    write_whole(path, content).map_err(|source| Error::Io { path: path.to_owned(), source })
}
