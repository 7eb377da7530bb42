//! Whether a turn is still wanted.

use std::thread;
use std::time::{Duration, Instant};

use lb_session::CancelToken;

use super::ChatRequest;
use crate::{Error, Result};

/// How long something blocks at most before it looks again.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// The deadline and the cancellation of one request.
pub(crate) struct TurnGuard<'a> {
    cancel: &'a CancelToken,
    deadline: Option<Instant>,
    limit: Duration,
}

impl<'a> TurnGuard<'a> {
    pub(crate) fn of(request: &ChatRequest<'a>) -> Self {
        let limit =
            request.deadline.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        Self { cancel: request.cancel, deadline: request.deadline, limit }
    }

    /// Fails when the turn was called off or its time is over.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            return Err(self.too_late());
        }
        Ok(())
    }

    fn too_late(&self) -> Error {
        Error::Timeout { what: "the orchestrator's turn", limit: self.limit }
    }

    /// Waits. A pause that the deadline would cut short is not begun: nothing could come of it.
    pub(crate) fn pause(&self, length: Duration) -> Result<()> {
        self.check()?;
        let Some(end) = Instant::now().checked_add(length) else { return Err(self.too_late()) };
        if self.deadline.is_some_and(|at| at <= end) {
            return Err(self.too_late());
        }
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(POLL));
            self.check()?;
        }
    }
}
