//! One item under all conditions.

use lb_session::Squeezed;
use serde::{Deserialize, Serialize};

use super::plan::Target;

/// One item: a line of `rows.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetainedRow {
    /// The item's id.
    pub item: String,
    /// What is drawn together in a bootstrap.
    pub document: String,
    /// Positions of the trajectory, template head counted in.
    pub seq_len: usize,
    /// Tokens of it that were read for this item, and how long that took; an item may go on where another ended.
    pub read_tokens: usize,
    /// Milliseconds.
    pub read_ms: f64,
    /// Whose continuation was read.
    pub target: Target,
    /// How many tokens of it, the token that ends it counted in.
    pub target_tokens: usize,
    /// Its text.
    pub target_text: String,
    /// Of each of the item's decisions, the option that was chosen in the recorded continuation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<Option<usize>>,
    /// Over the full cache.
    pub full: Measured,
    /// Without the trajectory.
    pub none: Measured,
    /// Each condition of the plan, in its order.
    pub conditions: Vec<Measured>,
    /// Why nothing was measured: the item does not fit the worker, or lacks what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The target behind one handoff.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// The condition, as text.
    pub handoff: String,
    /// Mean negative log-likelihood of the target, nats a token.
    pub nll: f64,
    /// Share of its tokens at which the most likely token is that of the full cache.
    pub agreement: f64,
    /// KL(full ‖ condition), mean over its tokens, in nats.
    pub kl: f64,
    /// Kept / original positions.
    pub kept: f64,
    /// Positions in the worker's context, and the target's tokens.
    pub worker_tokens: usize,
    /// Milliseconds to make the selection or the briefing, the pass that yields its queries counted in.
    pub brief_ms: f64,
    /// Milliseconds to read the task and what text stands in the trajectory's place, behind what is there already.
    pub prefill_ms: f64,
    /// Tokens that were computed for this call in front of the target.
    pub prefilled: usize,
    /// Positions that are attended to without having been computed for this call.
    pub reused: usize,
    /// Of each of the item's decisions the option that is likeliest; `None` where the tokenizer does not tell them apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decided: Vec<Option<usize>>,
    /// Effective rank of the cache that it leaves, the trajectory's part; where that was asked for and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
    /// Milliseconds of renewals while the target was read.
    #[serde(skip_serializing_if = "is_zero")]
    pub renewal_ms: f64,
    /// Tokens that were read and written to make what stands in the trajectory's place: passes for likelihoods, a summary, messages to choose
    /// from.
    #[serde(skip_serializing_if = "is_nothing")]
    pub made_tokens: usize,
    /// Which message it was, where it was one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub squeezed: Option<Squeezed>,
}

/// Effective ranks of a cache ([`lb_am::effective_rank`]), means over layers and KV heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rank {
    /// Of the keys, as they are cached.
    pub keys: f64,
    /// Of the values.
    pub values: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_nothing(count: &usize) -> bool {
    *count == 0
}
