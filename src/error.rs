//! What any part of the library can fail with.

/// Errors of every crate, so that one `?` takes them all. Each says what it is by itself; where it comes from is its variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A compaction.
    #[error(transparent)]
    Compaction(#[from] lb_am::Error),
    /// A checkpoint or the model in it.
    #[error(transparent)]
    Model(#[from] lb_model::Error),
    /// A session: its trajectory, a briefing, an answer.
    #[error(transparent)]
    Session(#[from] lb_session::Error),
    /// A recorded log that is none.
    #[error(transparent)]
    Log(#[from] lb_session::LogFault),
    /// A page of a briefing or a run.
    #[error(transparent)]
    Explain(#[from] lb_explain::Error),
    /// A setting of the environment.
    #[error(transparent)]
    Environment(#[from] lb_io::Error),
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The orchestrator's loop, before a run or between two.
    #[cfg(feature = "orchestrate")]
    #[error(transparent)]
    Orchestrate(Box<lb_orchestrate::Error>),
    /// A run of the loop that ended without an answer.
    #[cfg(feature = "orchestrate")]
    #[error(transparent)]
    Stopped(#[from] Box<lb_orchestrate::Stopped>),
    /// The sandbox.
    #[cfg(feature = "orchestrate")]
    #[error(transparent)]
    Sandbox(#[from] lb_sandbox::Error),
    /// An evaluation.
    #[cfg(feature = "eval")]
    #[error(transparent)]
    Eval(Box<lb_eval::Error>),
}

#[cfg(feature = "orchestrate")]
impl From<lb_orchestrate::Error> for Error {
    fn from(error: lb_orchestrate::Error) -> Self {
        Self::Orchestrate(Box::new(error))
    }
}

#[cfg(feature = "eval")]
impl From<lb_eval::Error> for Error {
    fn from(error: lb_eval::Error) -> Self {
        Self::Eval(Box::new(error))
    }
}

/// Results with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
