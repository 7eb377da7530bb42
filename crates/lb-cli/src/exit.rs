//! What the program ends with.

use std::process::ExitCode;

/// The numbers that the program ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Done = 0,
    /// It could not: a file, a model, a service, a run without an answer.
    Failed = 1,
    /// The command line says what cannot be.
    Usage = 2,
    /// The command is not in this build.
    NotBuilt = 3,
    /// It was called off with Ctrl-C; what was done until then is kept where there is a folder for it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Arguments that are well formed one by one and cannot be together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A command that this build lacks.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` is not in this build; cargo install latent-briefing --features {feature}")]
pub(crate) struct NotBuilt {
    pub(crate) command: &'static str,
    pub(crate) feature: &'static str,
}

impl Exit {
    /// The number for what stopped a command.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let called_off = matches!(error.downcast_ref(), Some(lb_session::Error::Cancelled))
            || matches!(error.downcast_ref(), Some(lb_model::Error::Interrupted));
        if error.is::<Usage>() {
            Self::Usage
        } else if error.is::<NotBuilt>() {
            Self::NotBuilt
        } else if called_off {
            Self::Interrupted
        } else {
            Self::Failed
        }
    }
}
