//! How long to wait before a request is repeated.

use std::time::Duration;

use lb_io::http::backoff;

use super::config::Retries;
use super::failure::Failure;

impl Retries {
    /// The pause before request `sent` + 1 (`sent` from 1); `None` where it should not be repeated.
    pub(super) fn pause(&self, failure: &Failure, sent: usize) -> Option<Duration> {
        if !failure.is_temporary() || sent > self.count {
            return None;
        }
        if let Failure::Unavailable { retry_after: Some(asked), .. } = failure {
            return (*asked <= self.longest_pause).then_some(*asked);
        }
        Some(backoff(self.first_pause, self.longest_pause, sent))
    }
}
