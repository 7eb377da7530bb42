//! What may end a call: a token that calls it off, and a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Calls off whatever watches it: a completion under way, a block of code, the generation of an answer. Clones share
/// one state, and it may be set from a signal handler's thread.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    cancelled: Arc<AtomicBool>,
}

impl CancelToken {
    /// A token that nothing has called off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls off; there is no way back.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether it was called off.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// Says whether the call under way goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    cancel: Option<CancelToken>,
    deadline: Option<Deadline>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    /// From the beginning of the call until then.
    allowed: Duration,
}

/// A guard that ends nothing.
pub(crate) static UNGUARDED: Guard = Guard { cancel: None, deadline: None };

impl Guard {
    /// For a call that begins now.
    pub(crate) fn new(cancel: Option<CancelToken>, deadline: Option<Instant>) -> Self {
        let from_now = |at: Instant| Deadline { at, allowed: at.saturating_duration_since(Instant::now()) };
        Self { cancel, deadline: deadline.map(from_now) }
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.check().is_ok()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            return Err(Error::Cancelled);
        }
        match self.deadline {
            Some(Deadline { at, allowed }) if Instant::now() >= at => {
                Err(Error::Timeout { what: "a worker's answer", limit: allowed })
            }
            _ => Ok(()),
        }
    }

    /// The error of a call that this has ended is about why, not about where.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match error {
            Error::Model(lb_model::Error::Interrupted) => self.check().err().unwrap_or(Error::Cancelled),
            Error::Call { source, index } => match self.explain(*source) {
                ended @ (Error::Cancelled | Error::Timeout { .. }) => ended,
                other => other.in_call(index),
            },
            other => other,
        }
    }
}
