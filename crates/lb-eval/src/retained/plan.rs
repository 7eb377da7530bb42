//! What is to be measured.

use std::str::FromStr;

use lb_session::TaskState;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Selected, Way};
use crate::pipeline::Shard;
use crate::{Error, Result};

/// What is read behind a handoff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The recorded continuation. It is long and true, and in another's style.
    #[default]
    Reference,
    /// What the worker writes greedily over the full cache. Better for short answers, where styles differ most.
    Own,
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "reference" => Ok(Self::Reference),
            "own" => Ok(Self::Own),
            other => Err(Error::config("target", format!("{other:?}"), "want reference or own")),
        }
    }
}

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetainedPlan {
    /// Handoffs and selections as text ([`Condition`]). The full cache and no trajectory are measured in any case.
    pub conditions: Vec<String>,
    /// What is read behind them.
    pub target: Target,
    /// Tokens of it, 1 to 4096. Default: 96.
    pub target_tokens: usize,
    /// Whether the effective rank of what each condition leaves in the cache is measured.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rank: bool,
    /// Which part of the documents; where one run is on several machines. Default: all.
    #[serde(skip)]
    pub shard: Shard,
}

impl Default for RetainedPlan {
    fn default() -> Self {
        let conditions = ["full-kv", "none", "latent-briefing:keep=0.1", "snapkv:keep=0.1"];
        let conditions = conditions.map(str::to_owned).to_vec();
        Self {
            conditions,
            target: Target::default(),
            target_tokens: 96,
            rank: false,
            shard: Shard::default(),
        }
    }
}

impl RetainedPlan {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field; [`Error::Session`] for a condition that is neither handoff nor selection.
    pub fn validate(&self) -> Result<()> {
        if !(1..=4096).contains(&self.target_tokens) {
            return Err(Error::config("target_tokens", self.target_tokens, "want 1 to 4096"));
        }
        self.expanded().map(|_| ())
    }

    pub(super) fn expanded(&self) -> Result<Vec<Condition>> {
        let conditions = Condition::read_all(&self.conditions)?;
        for condition in &conditions {
            match &condition.way {
                Way::Direct => {
                    return Err(condition.refused("is for question sets, whose documents it reads"));
                }
                Way::Selection(Selected { state: TaskState::Reuse, .. }) => {
                    return Err(Error::config(
                        "state",
                        "reuse",
                        "the task is read anew over every selection",
                    ));
                }
                _ => {}
            }
        }
        Ok(conditions)
    }
}
