//! Prompts that were read before, for those that begin alike: each tenant's own, the longest first.

use std::time::Instant;

use lb_model::KvCache;

use crate::Tenant;

/// Pieces that a cache may lie in, and bytes below which it is copied anyway.
const PIECES: usize = 4;
const LITTLE: usize = 8 << 20;
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

    /// Keeps a cache and its tokens, in the place of those of this tenant that it begins with. What is there already, maybe with more behind
    /// it, stays as it is.
    pub(super) fn keep(&mut self, tenant: &Tenant, tokens: Vec<u32>, cache: KvCache) {
        if self.most == 0 || tokens.len() != cache.logical_len() || tokens.len() < WORTH {
            return;
        }
        let covers = |known: &&mut Known| known.tenant == *tenant && known.tokens.starts_with(&tokens);
        if let Some(known) = self.known.iter_mut().find(covers) {
            known.used = Instant::now();
            return;
        }
        self.known.retain(|known| known.tenant != *tenant || !tokens.starts_with(&known.tokens));
        let cache = in_one_piece(cache);
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

/// The same slots in memory of their own where it is little, or lies in many pieces: a piece has room for more slots than it holds, and
/// a conversation adds some with each of its turns.
fn in_one_piece(cache: KvCache) -> KvCache {
    if cache.runs() <= PIECES && cache.bytes() > LITTLE {
        return cache;
    }
    let copied = cache.layers().and_then(|layers| {
        let mut one = KvCache::empty_like(&cache);
        one.append_layers(&layers, cache.logical_len())?;
        Ok(one)
    });
    // What cannot be copied is kept as it lies.
    copied.unwrap_or(cache)
}

#[cfg(test)]
mod tests {
    use lb_model::Worker;

    use super::Prefixes;
    use crate::Tenant;

    #[test]
    fn the_same_prompt_again_and_again_takes_no_more_memory_and_no_more_pieces() {
        let worker = Worker::embedded().unwrap();
        let (ana, bo) = (Tenant::named("ana").unwrap(), Tenant::named("bo").unwrap());
        let prompt: Vec<u32> =
            worker.tokenizer().encode_text(&"The Oslo ledger is kept by Ana. ".repeat(4)).unwrap();
        let mut prefixes = Prefixes::new(1 << 30);
        let mut bytes = None;
        for turn in 0..20_usize {
            let mut cache = prefixes.longest(&ana, &prompt).unwrap_or_else(|| worker.model().new_cache());
            assert_eq!(cache.logical_len() > 0, turn > 0);
            worker.model().forward(&prompt[cache.logical_len()..], &mut cache).unwrap();
            prefixes.keep(&ana, prompt.clone(), cache.fork());
            worker.model().forward(&[prompt[0]], &mut cache).unwrap();
            let answered = [&prompt[..], &prompt[..1]].concat();
            prefixes.keep(&ana, answered, cache);
            assert_eq!((prefixes.known.len(), prefixes.known[0].cache.runs()), (1, 1));
            assert_eq!(*bytes.get_or_insert(prefixes.bytes()), prefixes.bytes());
        }
        assert!(prefixes.longest(&bo, &prompt).is_none());
        // What was not used for longest goes first.
        let one = prefixes.bytes();
        prefixes.most = one + one / 2;
        let mut cache = worker.model().new_cache();
        let other: Vec<u32> = prompt.iter().rev().copied().collect();
        worker.model().forward(&other, &mut cache).unwrap();
        prefixes.keep(&bo, other.clone(), cache);
        assert!(prefixes.longest(&ana, &prompt).is_none());
        assert_eq!(prefixes.longest(&bo, &other).unwrap().logical_len(), other.len() - 1);
    }
}
