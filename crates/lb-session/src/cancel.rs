//! A run that is called off from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
