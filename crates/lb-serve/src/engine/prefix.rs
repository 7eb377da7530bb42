//! Prompts that were read before, for those that begin alike: each tenant's own, the longest first.

use std::time::Instant;

use lb_model::KvCache;

use crate::Tenant;

/// Positions that two prompts must share to be worth a fork.
const WORTH: usize = 16;

struct Known {
    tenant: Tenant,
    tokens: Vec<u32>,
    cache: KvCache,
    used: Instant,
}

/// Caches by their tokens, within a bound of bytes; what was not used for longest goes first.
pub(super) struct Prefixes {
    known: Vec<Known>,
    most: usize,
}

impl Prefixes {
    pub(super) fn new(most: usize) -> Self {
        Self { known: Vec::new(), most }
    }

    /// A cache of the longest beginning of `tokens` that this tenant has had read. The last token is left to be read, since somebody wants
    /// its logits.
    pub(super) fn longest(&mut self, tenant: &Tenant, tokens: &[u32]) -> Option<KvCache> {
        let own = self.known.iter_mut().filter(|known| known.tenant == *tenant);
        let shared = |known: &Known| {
            let same = known.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            same.min(tokens.len().saturating_sub(1))
        };
        let best = own.map(|known| (shared(known), known)).max_by_key(|(shared, _)| *shared)?;
        let (shared, known) = best;
        if shared < WORTH {
            return None;
        }
        let mut cache = known.cache.fork();
        cache.truncate(shared).ok()?;
        known.used = Instant::now();
        Some(cache)
    }

    /// Keeps a cache and its tokens, in the place of those of this tenant that it begins with.
    pub(super) fn keep(&mut self, tenant: &Tenant, tokens: Vec<u32>, cache: KvCache) {
        if self.most == 0 || tokens.len() != cache.logical_len() || tokens.len() < WORTH {
            return;
        }
        self.known.retain(|known| known.tenant != *tenant || !tokens.starts_with(&known.tokens));
        self.known.push(Known { tenant: tenant.clone(), tokens, cache, used: Instant::now() });
        while self.bytes() > self.most {
            let Some(oldest) = (0..self.known.len()).min_by_key(|at| self.known[*at].used) else { return };
            self.known.remove(oldest);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.known.iter().map(|known| known.cache.bytes()).sum()
    }
}
