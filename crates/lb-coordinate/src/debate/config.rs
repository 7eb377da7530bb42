//! How a debate is led.

use std::fmt;
use std::str::FromStr;

use lb_session::Handoff;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How an agent gets to know what the others said, and reads what it had before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Told {
    /// As text, all of it again in every round, what they are asked about included.
    Text,
    /// What is new since the agent's last turn, behind what it has in its cache.
    Diff,
    /// The same, and then a handoff over its cache in the place of all of it: `latent-briefing:keep=0.1`.
    Over(Box<Handoff>),
}

impl FromStr for Told {
    type Err = Error;

    /// `text`, `diff`, or any handoff.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "diff" => Ok(Self::Diff),
            handoff => Ok(Self::Over(Box::new(handoff.parse::<Handoff>()?))),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Diff => f.write_str("diff"),
            Self::Over(handoff) => f.write_str(handoff.name()),
        }
    }
}

/// How a debate is led (*Improving Factuality and Reasoning in Language Models through Multiagent Debate*, arXiv 2305.14325).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DebateConfig {
    /// Agents, 2 to 16. Default: 3.
    pub agents: usize,
    /// Rounds at most, the first, in which nobody has heard the others, counted in; 1 to 16. Default: 3.
    pub rounds: usize,
    /// Whether it ends after a round in which all say the same. Default: true.
    pub ends_early: bool,
    /// Tokens of a reply, 1 to 4096. Default: 48.
    pub reply_tokens: usize,
    /// Of the agents' sampling, 0 to 2: without any they would all say the same. Default: 0.7.
    pub temperature: f64,
    /// Same seed, same replies.
    pub seed: u64,
}

impl Default for DebateConfig {
    fn default() -> Self {
        Self { agents: 3, rounds: 3, ends_early: true, reply_tokens: 48, temperature: 0.7, seed: 0 }
    }
}

impl DebateConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let within = |field, value: usize, range: std::ops::RangeInclusive<usize>, reason| {
            if range.contains(&value) { Ok(()) } else { Err(Error::config(field, value, reason)) }
        };
        within("agents", self.agents, 2..=16, "want 2 to 16")?;
        within("rounds", self.rounds, 1..=16, "want 1 to 16")?;
        within("reply_tokens", self.reply_tokens, 1..=4096, "want 1 to 4096")?;
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(Error::config("temperature", self.temperature, "want 0 to 2"));
        }
        Ok(())
    }
}
