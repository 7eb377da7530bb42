//! One item, answered under one condition.

use lb_session::{CallTokens, Chances};
use serde::{Deserialize, Serialize};

use crate::pipeline::{Part, Row};

/// Tokens of an orchestrator, summed over its turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrchestratorTokens {
    /// All tokens of its prompts, those read from or written to a cache counted in.
    pub input: usize,
    /// The part of `input` that was read from a prompt cache.
    pub cached: usize,
    /// The part of `input` that was written to a prompt cache.
    pub cache_written: usize,
    /// All tokens that were generated, thoughts counted in.
    pub output: usize,
    /// The part of `output` that was thoughts, where the API tells.
    pub reasoning: usize,
    /// Replies without counts; what they cost is missing from the others.
    pub unreported: usize,
}

impl OrchestratorTokens {
    /// Everything that was read and generated.
    pub fn total(&self) -> usize {
        self.input.saturating_add(self.output)
    }
}

/// One item under one condition: a line of `rows.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerRow {
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
    pub orchestrator: OrchestratorTokens,
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

impl AnswerRow {
    /// Whether the answer is right.
    pub fn right(&self) -> bool {
        self.failure.is_none() && self.score >= 1.0
    }

    /// Positions that the worker attended to and tokens that it wrote, all calls.
    pub fn worker_tokens(&self) -> usize {
        self.worker.worker_tokens()
    }

    /// Rows of several conditions that belong together have the same.
    pub(super) fn key(&self) -> (&str, usize) {
        (&self.item, self.repeat)
    }

    /// Whether the likeliest letters of this row and of the reference agree (1 or 0), and `KL(reference || this)` over the
    /// letters, in nats; `None` where one of them has none.
    pub(super) fn letters_against(&self, reference: &Self) -> Option<(f64, f64)> {
        let (own, reference) = (self.letters.as_ref()?, reference.letters.as_ref()?);
        let kl = reference.kl(own)?;
        let agree = own.likeliest()? == reference.likeliest()?;
        Some((f64::from(agree), kl))
    }
}

impl Row for AnswerRow {
    fn item(&self) -> &str {
        &self.item
    }

    fn place(&self) -> Option<(&str, usize)> {
        Some((&self.condition, self.repeat))
    }

    fn impossible(&self) -> Option<(&'static str, String, &'static str)> {
        let mut names = [("item", &self.item), ("condition", &self.condition)].into_iter();
        if let Some((field, _)) = names.find(|(_, name)| name.is_empty()) {
            return Some((field, "\"\"".to_owned(), "want a name"));
        }
        let (share, seconds) = ((1.0, "want 0 to 1"), (1e12, "want seconds, 0 or more"));
        let numbers = [
            ("score", self.score, share),
            ("keep_ratio", self.keep_ratio.unwrap_or_default(), share),
            ("brief_s", self.brief_s, seconds),
            ("prefill_s", self.prefill_s, seconds),
            ("decode_s", self.decode_s, seconds),
            ("elapsed_s", self.elapsed_s, seconds),
        ];
        let wrong = numbers.into_iter().find(|(_, value, (most, _))| !(0.0..=*most).contains(value));
        wrong.map(|(field, value, (_, reason))| (field, value.to_string(), reason))
    }
}
