//! A trajectory's cache, cut for one task.

mod briefer;
mod config;
mod cut;
mod fitted;
mod lookahead;
mod map;
mod merge;
mod on_policy;
mod passes;
mod pieces;
mod refitted;
mod renewal;
mod rerotated;
mod storage;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use candle_core::Tensor;
use lb_am::{LayerKv, Report};
use lb_model::{KvCache, Worker};
use serde::{Deserialize, Serialize};

use crate::Task;

pub(crate) use briefer::Briefer;
pub use config::{BriefConfig, ChunkMode, Chunking};
pub(crate) use cut::compactor;
pub use lookahead::{Draft, DraftOver, Learned, Lookahead};
pub use map::{BriefingMap, heat};
pub(crate) use renewal::Renewing;
pub use renewal::{Renewal, Renewed};
pub use storage::Storage;

/// What becomes of the task's own keys and values, which the pass that scores the trajectory computes anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Drop them; the task is read again over the briefing alone. The strict test of a briefing, and what every
    /// comparison of methods must use.
    #[default]
    Recompute,
    /// Keep them, with the logits of the first answer token. Free, but they were computed against the full cache; not
    /// so in an on-policy briefing, where they were computed against the briefing.
    Reuse,
}

/// Where the time of a briefing went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BriefTiming {
    /// The passes that yield the queries, that of the task over the full cache as a rule. On-policy queries come about
    /// between the compactions of the layers; here is what had to be known before.
    pub queries: Duration,
    /// Scores, mask, biases and values.
    pub compaction: Duration,
}

impl BriefTiming {
    /// Both together.
    pub fn total(&self) -> Duration {
        self.queries + self.compaction
    }
}

/// The task's state that [`TaskState::Reuse`] keeps.
#[derive(Clone, Debug)]
pub(crate) struct ReusedTask {
    pub(crate) layers: Vec<LayerKv>,
    pub(crate) logits: Tensor,
}

impl ReusedTask {
    /// Tokens of the task.
    pub(crate) fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerKv::seq_len)
    }
}

/// One position of the trajectory, as [`Briefing::explain`] shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Its text.
    pub piece: String,
    /// Its pooled score, the mean attention weight that the task gives it or its neighbourhood.
    pub score: f32,
    /// True where half of the (layer, KV head) pairs have it, or twice the share that has any one position on average: with a
    /// count of its own a head agrees with few others.
    pub kept: bool,
    /// The share of the (layer, KV head) pairs that have it: 0 or 1 with a mask that all share.
    pub kept_by: f32,
}

/// A compacted cache with the report on how it came about. Independent of the trajectory it was cut from.
#[derive(Debug)]
pub struct Briefing {
    pub(crate) cache: KvCache,
    pub(crate) task: Task,
    pub(crate) kept_len: usize,
    /// Tokens that the model computed for it.
    pub(crate) prefilled: usize,
    pub(crate) kept_by: Vec<f32>,
    pub(crate) tokens: Arc<Vec<u32>>,
    pub(crate) reused: Option<ReusedTask>,
    /// What was drafted of the answer, where its queries helped to choose.
    pub(crate) draft: Vec<u32>,
    pub(crate) report: Report,
    pub(crate) timing: BriefTiming,
}

impl Briefing {
    /// The compacted cache; decoding from a fork of it leaves the briefing as it is.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The task it was made for.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Positions of the trajectory, template head counted in.
    pub fn seq_len(&self) -> usize {
        self.report.seq_len
    }

    /// Positions that stay; where layers or heads differ, on average over them, rounded up. The one that keeps the
    /// most is in the [`report`](Self::report).
    pub fn kept_len(&self) -> usize {
        self.kept_len
    }

    /// Kept / original positions, over all layers.
    pub fn keep_ratio(&self) -> f64 {
        self.report.keep_ratio
    }

    /// Whether it carries the task's own state.
    pub fn task_state(&self) -> TaskState {
        if self.reused.is_some() { TaskState::Reuse } else { TaskState::Recompute }
    }

    /// What was drafted of the answer, as tokens, where its queries helped to choose; empty otherwise. Answering begins with it as far
    /// as the briefing agrees.
    pub fn draft(&self) -> &[u32] {
        &self.draft
    }

    /// What each step of the compaction did.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Where the time went.
    pub fn timing(&self) -> BriefTiming {
        self.timing
    }

    /// For each position of the trajectory, the share of the (layer, KV head) pairs that have it.
    pub fn kept_by(&self) -> &[f32] {
        &self.kept_by
    }

    /// The share of (layer, KV head) pairs from which on a position counts as kept where it is shown.
    pub fn many(&self) -> f32 {
        (2.0 * self.keep_ratio() as f32).min(0.5)
    }

    /// Every position of the trajectory with its score. The pieces, joined, are the trajectory's text.
    pub fn explain(&self, worker: &Worker) -> Vec<Position> {
        let (pieces, many) = (worker.tokenizer().pieces(&self.tokens), self.many());
        let scored = pieces.into_iter().zip(&self.report.scores).zip(&self.kept_by);
        scored
            .map(|((piece, &score), &kept_by)| Position { piece, score, kept: kept_by >= many, kept_by })
            .collect()
    }
}
