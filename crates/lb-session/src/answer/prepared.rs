//! What a worker is given for one task, before it writes anything.

use std::time::Duration;

use candle_core::Tensor;
use lb_model::KvCache;

use super::call::Call;
use crate::generate::Input;
use crate::ledger::CallTokens;
use crate::{Briefing, HandoffKind, Squeezed};

/// A cache, and what is to be read behind it; see [`Ask::prepare`](crate::Ask::prepare).
#[derive(Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// What of the trajectory is there already, a cache of its own.
    pub cache: KvCache,
    /// Tokens to read behind it: text in the trajectory's place, then the task. Empty where the task's own state is in the
    /// cache ([`TaskState::Reuse`](crate::TaskState::Reuse)).
    pub prompt: Vec<u32>,
    /// Logits of the task's last token, `[vocab]`, f32, where its state is in the cache.
    pub logits: Option<Tensor>,
    /// Positions that the handoff had to choose from, template head counted in.
    pub seq_len: usize,
    /// Positions in their place that the worker can attend to, as [`Outcome::kept_len`](crate::Outcome::kept_len).
    pub kept_len: usize,
    /// The same over all positions of the trajectory.
    pub keep_ratio: f64,
    /// Time to make the selection, the summary or the briefing.
    pub brief: Duration,
    /// What it costs, but for the answer.
    pub tokens: CallTokens,
    /// Which handoff it is.
    pub handoff: HandoffKind,
    /// What was drafted of the answer on the way; a good guess of how it begins ([`Lookup`](lb_model::Lookup)).
    pub draft: Vec<u32>,
    /// The briefing, where the handoff made one.
    pub briefing: Option<Briefing>,
    /// Which message it is, where it is one of several.
    pub squeezed: Option<Squeezed>,
}

impl Prepared {
    pub(super) fn of(call: Call<'_>) -> Self {
        let Call { cache, input, cost: tokens, origin, guess: draft, briefing, .. } = call;
        let (prompt, logits) = match input {
            Input::Tokens(tokens) => (tokens, None),
            Input::InCache(logits) => (Vec::new(), Some(logits)),
        };
        let (seq_len, kept_len) = (origin.seq_len, origin.kept_len);
        Self {
            cache,
            prompt,
            logits,
            seq_len,
            kept_len,
            keep_ratio: origin.keep_ratio,
            brief: origin.brief,
            tokens,
            handoff: origin.handoff,
            draft,
            briefing,
            squeezed: origin.squeezed,
        }
    }
}
