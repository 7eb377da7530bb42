//! What stands in the trajectory's place in one call.

use std::time::Duration;

use lb_model::KvCache;

use super::squeeze::Squeezed;
use crate::context::Context;
use crate::ledger::{CallTokens, share};

/// What a call gets instead of the trajectory: a cache, or text to read, or both.
pub(crate) struct StandIn {
    pub(crate) cache: KvCache,
    /// Text that is read anew, before the task.
    pub(crate) text: Vec<u32>,
    /// Positions that there were to choose from.
    pub(crate) seq_len: usize,
    pub(crate) kept_len: usize,
    /// How long it took to make.
    pub(crate) brief: Duration,
    /// What it cost to make.
    pub(crate) cost: CallTokens,
    /// Which message it is, where it is one of several.
    pub(crate) squeezed: Option<Squeezed>,
}

impl StandIn {
    /// A part of the full cache.
    pub(super) fn of_cache(context: &Context, cache: KvCache, brief: Duration) -> Self {
        let (kept_len, cost) = (cache.mean_slots(), CallTokens::default());
        let (text, seq_len) = (Vec::new(), context.seq_len());
        Self { cache, text, seq_len, kept_len, brief, cost, squeezed: None }
    }

    /// Text, template head first.
    pub(super) fn of_text(context: &Context, text: Vec<u32>) -> Self {
        Self {
            cache: context.model().new_cache(),
            kept_len: text.len(),
            text,
            seq_len: context.text.tokens.len(),
            brief: Duration::ZERO,
            cost: CallTokens::default(),
            squeezed: None,
        }
    }

    /// The same that cost something to make.
    pub(super) fn made(self, brief: Duration, cost: CallTokens) -> Self {
        Self { brief, cost, ..self }
    }

    /// The same for each of `count` calls; the first pays.
    pub(super) fn shared(self, count: usize) -> Vec<Self> {
        let brief = share(self.brief, count);
        let one = |number: usize| Self {
            cache: self.cache.fork(),
            text: self.text.clone(),
            cost: if number == 0 { self.cost } else { CallTokens::default() },
            brief,
            ..self
        };
        (0..count).map(one).collect()
    }
}
