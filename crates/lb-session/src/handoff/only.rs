//! A cache of some slots alone.

use lb_model::KvCache;

use crate::Result;
use crate::context::Context;

/// A cache of the given slots alone, keys and values unchanged, at their own positions.
pub(super) fn only(context: &Context, kept: &[u32]) -> Result<KvCache> {
    Ok(context.full.cache.pick(kept)?)
}
