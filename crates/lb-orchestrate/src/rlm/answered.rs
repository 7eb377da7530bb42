//! Calls without a briefing that loops over the same turns have in common.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use lb_sandbox::Query;
use lb_session::SharedCaches;

use crate::log::WorkerCall;

/// What workers of one kind and one configuration were asked without a trajectory: a call that was answered before is not
/// answered again. The answer is what it would have been, and counts as many tokens.
#[derive(Clone, Default)]
pub struct AnsweredCalls {
    /// By document and prompt.
    calls: Arc<Mutex<HashMap<Key, WorkerCall>>>,
}

type Key = (Option<String>, String);

impl AnsweredCalls {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Key, WorkerCall>) -> T) -> T {
        // Whatever a panic left in the map is whole.
        work(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn get(&self, query: &Query) -> Option<WorkerCall> {
        self.with(|calls| calls.get(&key(query)).cloned())
    }

    pub(super) fn keep(&self, call: &WorkerCall) {
        if call.error.is_none() {
            self.with(|calls| calls.insert(key(&call.query), call.clone()));
        }
    }
}

/// Work that runs over the same turns have in common, done once; see [`RlmConfig::sharing`](crate::RlmConfig::sharing).
#[derive(Clone, Debug, Default)]
pub struct SharedWork {
    /// What their workers read.
    pub caches: SharedCaches,
    /// What their workers were asked without a trajectory.
    pub calls: AnsweredCalls,
}

impl SharedWork {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

fn key(query: &Query) -> Key {
    (query.document.clone(), query.prompt.clone())
}

impl fmt::Debug for AnsweredCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnsweredCalls").field("calls", &self.with(|calls| calls.len())).finish()
    }
}
