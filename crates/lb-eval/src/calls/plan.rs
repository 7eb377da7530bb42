//! What is to be asked of which logs.

use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Way};
use crate::datasets::ruler::NativeTask;
use crate::pipeline::{self, Shard};
use crate::{Error, Result};

/// Which logs are asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logs {
    /// Held-out episodes.
    HeldOut {
        /// Shortest and longest trajectory in tokens, template head counted in.
        tokens: (usize, usize),
        /// Questions about each.
        questions: usize,
    },
    /// One task in the manner of RULER, in the words that the built-in worker knows.
    Native {
        /// What is asked.
        task: NativeTask,
        /// Tokens of a log at most; logs fill them.
        tokens: usize,
    },
}

/// What is to be asked of which logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EpisodePlan {
    /// Handoffs and selections as text ([`Condition`]).
    pub conditions: Vec<String>,
    /// The logs.
    pub logs: Vec<Logs>,
    /// How many of each.
    pub episodes: usize,
    /// Seed of the first. Other seeds for other logs.
    pub seed: u64,
    /// Share of logs on which settings may be chosen, 0 to below 1. Default: 0.
    pub validation_share: f64,
    /// Logs at the same time. Default: 1.
    pub jobs: usize,
    /// Which part of them; where one run is on several machines. Default: all.
    #[serde(skip)]
    pub shard: Shard,
    /// Most tokens of an answer. Default: 64.
    pub answer_tokens: usize,
}

impl Default for EpisodePlan {
    fn default() -> Self {
        Self {
            conditions: ["full-kv", "text-replay", "latent-briefing:keep=0.1"].map(str::to_owned).to_vec(),
            logs: vec![Logs::HeldOut { tokens: (512, 2048), questions: 5 }],
            episodes: 20,
            seed: 50_000,
            validation_share: 0.0,
            jobs: 1,
            shard: Shard::default(),
            answer_tokens: 64,
        }
    }
}

impl EpisodePlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Session`] for a condition that is neither handoff nor selection.
    pub fn validate(&self) -> Result<()> {
        pipeline::at_least_one(&[("answer_tokens", self.answer_tokens), ("episodes", self.episodes)])?;
        pipeline::check(self.jobs, self.validation_share)?;
        if self.logs.is_empty() {
            return Err(Error::config("logs", "none", "want at least one"));
        }
        for logs in &self.logs {
            if let Logs::HeldOut { tokens: (low, high), .. } = logs
                && !(64 <= *low && low <= high && *high <= 32_768)
            {
                let value = format!("{low} to {high}");
                return Err(Error::config("tokens", value, "want 64 <= shortest <= longest <= 32768"));
            }
        }
        self.expanded().map(|_| ())
    }

    pub(super) fn expanded(&self) -> Result<Vec<Condition>> {
        let conditions = Condition::read_all(&self.conditions)?;
        check(&conditions)?;
        Ok(conditions)
    }
}

/// Refuses conditions that mean nothing for a log.
pub(super) fn check(conditions: &[Condition]) -> Result<()> {
    for condition in conditions {
        match &condition.way {
            Way::Direct => return Err(condition.refused("is for question sets, whose documents it reads")),
            _ if condition.wants_orchestrator() => {
                return Err(condition.refused("wants an orchestrator, which is not here"));
            }
            _ => {}
        }
    }
    Ok(())
}
