//! What time it is, from the system or from a test.

use std::fmt::Debug;
use std::time::SystemTime;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds after 1970.
    fn now(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
