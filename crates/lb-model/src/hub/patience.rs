//! Requests that are repeated, and who is told while they wait.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_io::http::backoff;

use crate::{Error, Result};

/// How long a pause lasts before it is asked again whether anyone still waits.
const POLL: Duration = Duration::from_millis(50);

/// Requests that are repeated: the hub was busy (429), failed (5xx), or the connection was reset.
///
/// A pause follows the reply's `retry-after`, or its `ratelimit` where the limit is spent; without either it doubles from
/// `first_pause` to 16 times as much, and half of it is random. A server that asks for more than `longest_pause` ends the call
/// at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Repetitions after the first request, of a download since its last megabyte. Default: 5.
    pub count: usize,
    /// The first pause. Default: 1 s.
    pub first_pause: Duration,
    /// The longest pause that is made. Default: 5 min, after which the hub counts requests anew.
    pub longest_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { count: 5, first_pause: Duration::from_secs(1), longest_pause: Duration::from_mins(5) }
    }
}

impl Retries {
    /// Every failure is final.
    pub const NONE: Self = Self { count: 0, first_pause: Duration::ZERO, longest_pause: Duration::ZERO };

    /// The pause before request `sent` + 1, `None` where there is to be none.
    fn pause(&self, asked: Option<Duration>, sent: usize) -> Option<Duration> {
        let pause = || {
            let longest = self.first_pause.saturating_mul(16).min(self.longest_pause);
            backoff(self.first_pause, longest, sent)
        };
        (sent <= self.count).then(|| asked.unwrap_or_else(pause)).filter(|pause| *pause <= self.longest_pause)
    }
}

/// A pause before a request is repeated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Retry<'r> {
    /// The path in the repository.
    pub file: &'r str,
    /// What went wrong.
    pub reason: &'r str,
    /// How long the pause is.
    pub pause: Duration,
    /// Which repetition comes after it, from 1.
    pub number: usize,
    /// How many there may be.
    pub of: usize,
}

impl fmt::Display for Retry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, reason, pause, number, of } = self;
        write!(f, "{file}: {reason}; trying again in {:.1} s ({number} of {of})", pause.as_secs_f64())
    }
}

/// Says it to who sits before the screen, and to the log.
fn say(retry: &Retry<'_>) {
    log::warn!("{retry}");
    if std::io::stderr().is_terminal() {
        eprintln!("{retry}");
    }
}

/// How one call waits.
#[derive(Clone)]
pub(super) struct Patience {
    pub(super) retries: Retries,
    pub(super) on_retry: Arc<dyn Fn(&Retry<'_>) + Send + Sync>,
    pub(super) cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { retries: Retries::default(), on_retry: Arc::new(say), cancelled: Arc::new(|| false) }
    }
}

impl Patience {
    /// # Errors
    /// [`Error::Interrupted`] once nobody waits any more.
    pub(super) fn check(&self) -> Result<()> {
        if (self.cancelled)() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Waits before request `sent` + 1; `false` where it is not to be sent.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(super) fn wait(
        &self,
        file: &str,
        reason: &str,
        asked: Option<Duration>,
        sent: usize,
    ) -> Result<bool> {
        let Some(pause) = self.retries.pause(asked, sent) else { return Ok(false) };
        (self.on_retry)(&Retry { file, reason, pause, number: sent, of: self.retries.count });
        let begun = Instant::now();
        loop {
            self.check()?;
            let left = pause.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(true);
            }
            std::thread::sleep(left.min(POLL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_what_is_asked_within_bounds() {
        let second = Duration::from_secs(1);
        let retries = Retries { count: 2, first_pause: second, longest_pause: 10 * second };
        assert_eq!(retries.pause(Some(7 * second), 1), Some(7 * second));
        assert_eq!(retries.pause(Some(11 * second), 1), None);
        assert_eq!(retries.pause(Some(second), 3), None);
        let own = retries.pause(None, 2).unwrap();
        assert!(own >= second && own <= 2 * second, "{own:?}");
        assert_eq!(Retries::NONE.pause(None, 1), None);
    }
}
