//! Work that runs over the same turns have in common, done once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use lb_model::KvCache;

use crate::log::WorkerCall;
use crate::repl::Query;

/// What sessions of one worker and one configuration read and were asked: a session that is to read what another has read
/// takes over its cache, which they share, and a call without a briefing that was answered before is not answered again.
/// Both are what they would have been, and count as many tokens. Only sessions that refuse what does not fit ([`RoomPolicy::Refuse`](crate::RoomPolicy::Refuse)) give
/// and take caches; a reading that was taken over takes no time.
#[derive(Clone, Default)]
pub struct SharedWork {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Full caches by the tokens that they hold.
    caches: HashMap<Vec<u32>, KvCache>,
    /// Answered calls by document and prompt.
    calls: HashMap<(Option<String>, String), WorkerCall>,
}

impl SharedWork {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        // Whatever a panic left in the maps is whole.
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A cache that holds these tokens.
    pub(crate) fn cache(&self, tokens: &[u32]) -> Option<KvCache> {
        self.with(|inner| inner.caches.get(tokens).map(KvCache::fork))
    }

    /// Keeps a cache; what comes back is what others will get, down to the parts that it is made of.
    pub(crate) fn keep_cache(&self, tokens: &[u32], cache: &KvCache) -> KvCache {
        let (kept, own) = (cache.fork(), cache.fork());
        self.with(|inner| inner.caches.insert(tokens.to_vec(), kept));
        own
    }

    /// The answer to a call without a briefing.
    pub(crate) fn call(&self, query: &Query) -> Option<WorkerCall> {
        self.with(|inner| inner.calls.get(&key(query)).cloned())
    }

    pub(crate) fn keep_call(&self, call: &WorkerCall) {
        if call.error.is_none() {
            self.with(|inner| inner.calls.insert(key(&call.query), call.clone()));
        }
    }
}

fn key(query: &Query) -> (Option<String>, String) {
    (query.document.clone(), query.prompt.clone())
}

impl fmt::Debug for SharedWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (caches, calls) = self.with(|inner| (inner.caches.len(), inner.calls.len()));
        f.debug_struct("SharedWork").field("caches", &caches).field("calls", &calls).finish()
    }
}
