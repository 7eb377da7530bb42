//! What is to be run.

use lb_orchestrate::Limits;
use lb_session::Handoff;
use serde::{Deserialize, Serialize};

use super::Scoring;
#[cfg(doc)]
use crate::condition::DIRECT;
use crate::condition::{Condition, Way};
use crate::pipeline::{self, Part, Shard};
use crate::{Error, Result, prompts};

/// The conditions under which every item is answered, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BenchPlan {
    /// Handoffs as text ([`Condition`]), and [`DIRECT`]. A plain `latent-briefing` stands for one condition for each of
    /// `tau`.
    pub conditions: Vec<String>,
    /// Thresholds of `latent-briefing`. Default: none, so that it is what it is.
    pub tau: Vec<f64>,
    /// Runs of the orchestrator for each item. Default: 1.
    pub repeats: usize,
    /// Decides the split, and what is sampled.
    pub seed: u64,
    /// Share of documents on which settings may be chosen, 0 to below 1. Default: 0.
    pub validation_share: f64,
    /// Items at the same time. Default: 1.
    pub jobs: usize,
    /// Which part of them; where one run is on several machines. Default: all.
    #[serde(skip)]
    pub shard: Shard,
    /// How items are asked and scored.
    pub scoring: Scoring,
    /// Most tokens of a worker's answer. Default: 128, as published.
    pub answer_tokens: usize,
    /// Keep a log of every run that makes briefings, for their heat maps; else of the live run alone. Default: true.
    pub briefing_logs: bool,
    /// Most tokens of the prompt of [`DIRECT`]; without it, what the worker can read.
    pub direct_tokens: Option<usize>,
    /// Of each run.
    pub limits: Limits,
}

impl Default for BenchPlan {
    fn default() -> Self {
        Self {
            conditions: ["full-kv", "latent-briefing", "text-replay", "none"].map(str::to_owned).to_vec(),
            tau: Vec::new(),
            repeats: 1,
            seed: 0,
            validation_share: 0.0,
            jobs: 1,
            shard: Shard::default(),
            scoring: Scoring::default(),
            answer_tokens: prompts::ANSWER_TOKENS,
            briefing_logs: true,
            direct_tokens: None,
            limits: Limits::default(),
        }
    }
}

impl BenchPlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Session`] for a handoff that cannot be read.
    pub fn validate(&self) -> Result<()> {
        pipeline::at_least_one(&[("repeats", self.repeats), ("answer_tokens", self.answer_tokens)])?;
        pipeline::check(self.jobs, self.validation_share)?;
        if self.direct_tokens == Some(0) {
            return Err(Error::config("direct_tokens", 0, "want at least 1"));
        }
        self.limits.validate()?;
        self.expanded().map(|_| ())
    }

    /// The conditions one by one, in order.
    ///
    /// # Errors
    /// [`Error::Config`] for none, for one that is there twice and for a published selection, [`Error::Session`] for a text
    /// that is no handoff.
    pub fn expanded(&self) -> Result<Vec<Condition>> {
        let mut names = Vec::new();
        for text in self.conditions.iter().map(|text| text.trim()) {
            if text == "latent-briefing" && !self.tau.is_empty() {
                names.extend(self.tau.iter().map(|tau| format!("latent-briefing:tau={tau}")));
            } else {
                names.push(text.to_owned());
            }
        }
        let conditions = Condition::read_all(&names)?;
        match conditions.iter().find(|condition| {
            matches!(condition.way, Way::Selection(_) | Way::Hierarchical(_) | Way::Chain(_))
        }) {
            Some(selection) => Err(selection.refused("is for logs; want a handoff or direct")),
            None => Ok(conditions),
        }
    }

    /// The condition under which the orchestrator runs; the others replay it. The full cache where it is among them, else
    /// the first with a loop; `None` where there is none.
    pub(super) fn live(conditions: &[Condition]) -> Option<&Condition> {
        let full = conditions.iter().find(|condition| condition.as_handoff() == Some(&Handoff::FullKv));
        full.or_else(|| conditions.iter().find(|condition| condition.as_handoff().is_some()))
    }

    /// The part of items about the document `cluster`: the same in every run with this seed.
    pub fn part(&self, cluster: u64) -> Part {
        pipeline::part(self.seed, self.validation_share, cluster)
    }
}
