//! Who paid for which tokens, seconds and bytes.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::HandoffKind;

/// Tokens of one worker call, or summed over calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallTokens {
    /// Positions in the worker's context when it starts to answer: cache slots, its task counted in. Where layers or
    /// heads keep different counts, the average over layers and KV heads, rounded up, since that is what memory and
    /// attention cost; where they share one mask it is the count of each.
    pub attended: usize,
    /// Tokens that the model computed for this call before the answer: trajectory text that was not cached, and the
    /// task once for each time it was read. A briefing with `TaskState::Recompute` reads the task twice; other sources
    /// of queries, on-policy passes and chunks that are read on their own add what they read, and a summary its request.
    pub prefilled: usize,
    /// Cache slots that this call attends to without having computed them; an average like `attended`.
    pub reused: usize,
    /// Tokens that the worker generated before the answer: a summary.
    pub drafted: usize,
    /// Tokens of the answer.
    pub generated: usize,
}

impl CallTokens {
    /// Positions in the worker's context when it answers plus the tokens it generates; the figure that savings are
    /// stated in.
    pub fn worker_tokens(&self) -> usize {
        self.attended + self.drafted + self.generated
    }
}

impl AddAssign for CallTokens {
    fn add_assign(&mut self, other: Self) {
        self.attended = self.attended.saturating_add(other.attended);
        self.prefilled = self.prefilled.saturating_add(other.prefilled);
        self.reused = self.reused.saturating_add(other.reused);
        self.drafted = self.drafted.saturating_add(other.drafted);
        self.generated = self.generated.saturating_add(other.generated);
    }
}

/// Wall time of one worker call, or summed over calls. The calls of a batch share its time out: that of reading by the
/// tokens that each reads, that of answering by the tokens of its answer, that of a briefing equally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallTimes {
    /// Reading what was not cached: the task, and text in the trajectory's place.
    pub prefill: Duration,
    /// Making the selection, the summary or the briefing.
    pub brief: Duration,
    /// Generating the answer.
    pub decode: Duration,
}

impl CallTimes {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.prefill + self.brief + self.decode
    }
}

impl AddAssign for CallTimes {
    fn add_assign(&mut self, other: Self) {
        self.prefill += other.prefill;
        self.brief += other.brief;
        self.decode += other.decode;
    }
}

/// What one worker call cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// How the worker got to know the trajectory.
    pub handoff: HandoffKind,
    /// Tokens.
    pub tokens: CallTokens,
    /// Wall time.
    pub times: CallTimes,
    /// Bytes of the cache that the answer was decoded from, the task counted in and shared slots too
    /// ([`KvCache::bytes`](lb_model::KvCache::bytes)).
    pub cache_bytes: usize,
    /// Positions that the handoff had to choose from, template head counted in: those of the full cache, or of the whole
    /// text where it hands over text.
    pub seq_len: usize,
    /// Positions in their place that the worker could attend to, template head counted in; 0 for
    /// [`Handoff::None`](crate::Handoff::None).
    pub kept_len: usize,
}

/// All calls of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenLedger {
    calls: Vec<CallRecord>,
    extended: usize,
    extending: Duration,
    reread: usize,
    making_room: Duration,
}

/// The sums of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerSum {
    /// Number of calls.
    pub calls: usize,
    /// Tokens of all calls.
    pub tokens: CallTokens,
    /// Wall time of all calls.
    pub times: CallTimes,
    /// The largest [`CallRecord::cache_bytes`].
    pub peak_cache_bytes: usize,
    /// Tokens read once into the trajectory's own cache, outside any call.
    pub trajectory_prefilled: usize,
    /// Wall time of that.
    pub trajectory_time: Duration,
    /// Tokens read once more to compact the oldest part of a trajectory that came near the model's position limit.
    pub room_prefilled: usize,
    /// Wall time of those compactions.
    pub room_time: Duration,
}

impl TokenLedger {
    /// Adds a call, for instance one that was answered over a [`Snapshot`](crate::Snapshot).
    pub fn record(&mut self, call: CallRecord) {
        self.calls.push(call);
    }

    pub(crate) fn extend(&mut self, tokens: usize, time: Duration) {
        self.extended += tokens;
        self.extending += time;
    }

    pub(crate) fn make_room(&mut self, tokens: usize, time: Duration) {
        self.reread += tokens;
        self.making_room += time;
    }

    /// One entry per answered call, in order.
    pub fn calls(&self) -> &[CallRecord] {
        &self.calls
    }

    /// Tokens prefilled once into the trajectory's own cache, outside any call.
    pub fn trajectory_prefilled(&self) -> usize {
        self.extended
    }

    /// The tokens of all calls.
    pub fn total(&self) -> CallTokens {
        self.sum().tokens
    }

    /// Everything, summed.
    pub fn sum(&self) -> LedgerSum {
        let mut sum = LedgerSum {
            calls: self.calls.len(),
            trajectory_prefilled: self.extended,
            trajectory_time: self.extending,
            room_prefilled: self.reread,
            room_time: self.making_room,
            ..LedgerSum::default()
        };
        for call in &self.calls {
            sum.tokens += call.tokens;
            sum.times += call.times;
            sum.peak_cache_bytes = sum.peak_cache_bytes.max(call.cache_bytes);
        }
        sum
    }
}

/// An equal share of what took so long together.
pub(crate) fn share(whole: Duration, of: usize) -> Duration {
    whole / u32::try_from(of.max(1)).unwrap_or(u32::MAX)
}

/// Shares in proportion to `weights`.
pub(crate) fn shares(whole: Duration, weights: impl Iterator<Item = usize>) -> Vec<Duration> {
    let weights: Vec<usize> = weights.collect();
    let sum = weights.iter().sum::<usize>().max(1);
    weights.iter().map(|weight| whole.mul_f64(*weight as f64 / sum as f64)).collect()
}
