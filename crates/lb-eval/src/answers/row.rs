//! One item, answered under one condition.

use lb_orchestrate::Usage;
use lb_session::{CallTokens, Chances};
use serde::{Deserialize, Serialize};

/// Which part of a set an item belongs to, where settings are chosen on one part and reported on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Settings are chosen here.
    Validation,
    /// Results are reported here.
    #[default]
    Test,
}

/// One item under one condition: a line of `rows.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BenchRow {
    /// The item's id.
    pub item: String,
    /// The set it is from.
    pub dataset: String,
    /// The condition: a handoff as text, `latent-briefing:tau=4`.
    pub condition: String,
    /// Which run of the orchestrator its turns are from, from 0. Rows of one item and repeat share their turns.
    pub repeat: usize,
    /// Items of one document share it.
    pub cluster: u64,
    /// Validation or test.
    pub part: Part,
    /// What kind of question it is; the sub-domain of LongBench v2.
    pub kind: String,
    /// Its domain.
    pub domain: Option<String>,
    /// `easy` or `hard`.
    pub difficulty: Option<String>,
    /// `short`, `medium` or `long`.
    pub length: Option<String>,
    /// Tokens of the document.
    pub context_tokens: usize,
    /// Positions of the trajectory at the last call, template head counted in.
    pub seq_len: usize,
    /// The right answer.
    pub expected: String,
    /// What was answered.
    pub answer: String,
    /// Chances of the letters of a multiple-choice item, at the last call that knew the trajectory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub letters: Option<Chances>,
    /// From 0 to 1; 1 is right.
    pub score: f64,
    /// Why there is no answer. Such a row counts as wrong and stays in every denominator.
    pub failure: Option<String>,
    /// Worker calls.
    pub calls: usize,
    /// The worker's tokens, all calls.
    pub worker: CallTokens,
    /// Tokens of the trajectory, read once.
    pub trajectory: usize,
    /// The orchestrator's tokens.
    pub orchestrator: Usage,
    /// Share of the trajectory that a call could attend to, on average.
    pub keep_ratio: Option<f64>,
    /// Seconds of making briefings or selections.
    pub brief_s: f64,
    /// Seconds of reading prompts.
    pub prefill_s: f64,
    /// Seconds of writing answers.
    pub decode_s: f64,
    /// Seconds of the run.
    pub elapsed_s: f64,
    /// The run's log, relative to the folder of the rows.
    pub log: Option<String>,
}

impl BenchRow {
    /// Whether the answer is right.
    pub fn right(&self) -> bool {
        self.failure.is_none() && self.score >= 1.0
    }

    /// Positions that the worker attended to and tokens that it wrote, all calls.
    pub fn worker_tokens(&self) -> usize {
        self.worker.worker_tokens()
    }
}
