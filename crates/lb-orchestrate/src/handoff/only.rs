//! A cache of some slots alone.

use lb_model::KvCache;

use crate::Result;
use crate::session::WorkerSession;

impl WorkerSession {
    /// A cache of the given slots alone, keys and values unchanged, at their own positions.
    pub(super) fn only(&self, kept: &[u32]) -> Result<KvCache> {
        Ok(self.held.cache.pick(kept)?)
    }
}
