//! Softmax attention over the chunks of caches.
//!
//! Keys and values are read where they lie: chunks are never joined. Forks of one cache have their first chunks in
//! common; the queries of all of them meet those together, so that a prefix is read once. Where heads have different
//! counts of slots, each head attends to its own rows.

#[cfg(test)]
mod packed_tests;
#[cfg(test)]
mod tests;

mod cpu;
mod plain;

use candle_core::Tensor;
use lb_am::{Observed, ScoreAgg};

use crate::Result;
use crate::cache::Chunk;

/// One sequence's part in an attention.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// `[kv_heads, group_size * tokens, d]`.
    pub(crate) q: Tensor,
    /// What q · k is multiplied with.
    pub(crate) scale: f32,
    /// What it attends to. With a mask the last one is the tokens themselves; without, there is one token and it sees
    /// everything.
    pub(crate) chunks: Vec<Chunk>,
    /// `[tokens, tokens]`, see [`causal_mask`](crate::pass::causal_mask).
    pub(crate) mask: Option<Tensor>,
    /// By token, how many of the first slots of all chunks it does not see; see [`Views`](crate::cache::Views).
    pub(crate) hidden: Option<Vec<usize>>,
    /// What to note of the first chunks.
    pub(crate) watch: Option<Watching>,
}

/// The first `chunks` chunks are watched: what a compaction wants to know of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watching {
    pub(crate) chunks: usize,
    pub(crate) score: ScoreAgg,
}

/// One sequence's result.
#[derive(Debug)]
pub(crate) struct Attended {
    /// Like its `q`.
    pub(crate) out: Tensor,
    /// What was noted, where the way of computing allows it.
    pub(crate) observed: Option<Observed>,
}

/// `softmax(scale · q Kᵀ + bias + masks) V` of each sequence over the concatenation of its chunks, softmax in f32.
pub(crate) fn attend(askers: &[Asker]) -> Result<Vec<Attended>> {
    #[cfg(feature = "flash-attn")]
    if let Some(attended) = crate::flash::attend(askers)? {
        return Ok(attended.into_iter().map(Attended::unwatched).collect());
    }
    if cpu::serves(askers) {
        return cpu::attend(askers);
    }
    Ok(plain::attend(askers)?.into_iter().map(Attended::unwatched).collect())
}

impl Attended {
    fn unwatched(out: Tensor) -> Self {
        Self { out, observed: None }
    }
}

/// Whether both begin with the same slots, which all of their tokens see.
fn same_start(a: &Asker, b: &Asker) -> bool {
    let whole = a.hidden.is_none() && b.hidden.is_none();
    whole && a.chunks.first().zip(b.chunks.first()).is_some_and(|(a, b)| a.same(b))
}

/// How many chunks all have in common, from the first on; none for a sequence alone.
fn in_common(askers: &[&Asker]) -> usize {
    let Some((first, others)) = askers.split_first().filter(|(_, others)| !others.is_empty()) else {
        return 0;
    };
    let alike = |index: &usize| {
        let chunk = &first.chunks[*index];
        others.iter().all(|other| other.chunks.get(*index).is_some_and(|c| c.same(chunk)))
    };
    (0..first.chunks.len()).take_while(alike).count()
}
