//! Caches that sessions over the same turns have in common.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use lb_model::KvCache;

/// What sessions of one worker and one configuration read: a session that is to read what another has read takes over its
/// cache, which they share. It is what it would have been, and counts as many tokens. Only sessions that refuse what does
/// not fit ([`RoomPolicy::Refuse`](crate::RoomPolicy::Refuse)) give and take caches; a reading that was taken over takes no
/// time.
#[derive(Clone, Default)]
pub struct SharedCaches {
    /// By the tokens that they hold.
    caches: Arc<Mutex<HashMap<Vec<u32>, KvCache>>>,
}

impl SharedCaches {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Vec<u32>, KvCache>) -> T) -> T {
        // Whatever a panic left in the map is whole.
        work(&mut self.caches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A cache that holds these tokens.
    pub(crate) fn get(&self, tokens: &[u32]) -> Option<KvCache> {
        self.with(|caches| caches.get(tokens).map(KvCache::fork))
    }

    /// Keeps a cache; what comes back is what others will get, down to the parts that it is made of.
    pub(crate) fn keep(&self, tokens: &[u32], cache: &KvCache) -> KvCache {
        let (kept, own) = (cache.fork(), cache.fork());
        self.with(|caches| caches.insert(tokens.to_vec(), kept));
        own
    }
}

impl fmt::Debug for SharedCaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCaches").field("caches", &self.with(|caches| caches.len())).finish()
    }
}
