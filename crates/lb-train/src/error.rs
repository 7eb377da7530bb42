//! What can go wrong in training, and with what was trained.

use std::path::PathBuf;

use lb_io::shown::explained;

/// Errors of `lb-train`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("{field} = {value}: {reason}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wanted.
        reason: &'static str,
    },
    /// An argument that must not be empty is.
    #[error("{arg} is empty")]
    Empty {
        /// The argument.
        arg: &'static str,
    },
    /// The worker's tokens of a text do not give it back: its tokenizer writes some characters otherwise, or has none for them.
    #[error(
        "the worker's tokens give back another text from byte {byte} on; a text in its own characters can be crammed"
    )]
    OtherText {
        /// The first byte that differs.
        byte: usize,
    },
    /// Losses or vectors are no numbers any more.
    #[error("training ran off after {step} steps: the loss is no number; a lower learning rate may help")]
    Diverged {
        /// Steps that were taken.
        step: usize,
    },
    /// A file holds no crammed text of this worker.
    #[error("{}: {}", path.display(), explained(reason))]
    Stored {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What a worker reads back is not the text that was crammed: numbers came out otherwise on this machine.
    #[error(
        "what was read back is not the text: its digest differs, so the worker's numbers do on this machine"
    )]
    ReadOtherwise,
    /// The worker failed, or what is asked does not fit it.
    #[error(transparent)]
    Model(#[from] lb_model::Error),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] lb_session::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> Self {
        Self::Config { field, value: value.to_string(), reason }
    }
}

/// Results of `lb-train`.
pub type Result<T> = std::result::Result<T, Error>;
