//! How a history is managed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ItemKind;
use crate::{Error, Result};

/// How a history is kept within a budget. Without a budget nothing is ever changed.
///
/// Sources: decay with a seed is a weighted draw without replacement (Efraimidis and Spirakis, 2006) whose weights halve
/// with age. All weights shrink alike, so the order among old items stays as it is while new ones come: what was left out
/// stays left out, and a prompt keeps its prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManagerConfig {
    /// Tokens of a prompt of the orchestrator, by the worker's tokenizer; at least 64. Default: none, prompts are sent whole.
    pub prompt_tokens: Option<usize>,
    /// Tokens of all that enters the trajectory; at least 64. Default: none, everything enters.
    pub trajectory_tokens: Option<usize>,
    /// Once over the budget, a prompt is brought down to this share of it, so that the next turns leave it as it is and its
    /// prefix can be read from a cache; above 0, at most 1. Of a trajectory, the rest is for what is pinned. Default: 0.7.
    pub low_water: f64,
    /// So many items at the end stay whole as long as the budget lets them. Default: 4.
    pub window: usize,
    /// Items after which a weight is half; 0 is no decay, and then the order is that of the priorities. Default: 8.
    pub half_life: f64,
    /// Seed of the decay: the same seed leaves out the same items. Default: 0.
    pub seed: u64,
    /// States (a ledger, a page seen before) are shown as what changed. Default: true.
    pub diffs: bool,
    /// What is left out is named, so that code can fetch it. Default: true.
    pub pointers: bool,
    /// Characters of a text that an excerpt begins with. Default: 240.
    pub head_chars: usize,
    /// Kinds that go last, and by name in the report. Default: request, decision, code, error.
    pub pin: Vec<ItemKind>,
    /// Weight of each kind, above 0; what is not named keeps its default.
    pub priorities: BTreeMap<ItemKind, f64>,
}

impl Default for ManagerConfig {
    fn default() -> Self {
        Self {
            prompt_tokens: None,
            trajectory_tokens: None,
            low_water: 0.7,
            window: 4,
            half_life: 8.0,
            seed: 0,
            diffs: true,
            pointers: true,
            head_chars: 240,
            pin: vec![ItemKind::Request, ItemKind::Decision, ItemKind::Code, ItemKind::Error],
            priorities: BTreeMap::new(),
        }
    }
}

impl ManagerConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let budgets = [
            ("context.prompt_tokens", self.prompt_tokens),
            ("context.trajectory_tokens", self.trajectory_tokens),
        ];
        for (field, budget) in budgets {
            if let Some(tokens) = budget.filter(|tokens| *tokens < 64) {
                return Err(Error::config(field, tokens, "want at least 64"));
            }
        }
        if !(self.low_water > 0.0 && self.low_water <= 1.0) {
            return Err(Error::config("context.low_water", self.low_water, "want above 0 and at most 1"));
        }
        if !(self.half_life >= 0.0 && self.half_life.is_finite()) {
            return Err(Error::config(
                "context.half_life",
                self.half_life,
                "want a finite number of at least 0",
            ));
        }
        match self.priorities.values().find(|weight| !(**weight > 0.0 && weight.is_finite())) {
            Some(weight) => Err(Error::config("context.priorities", weight, "want finite weights above 0")),
            None => Ok(()),
        }
    }

    /// Whether anything is managed.
    pub fn is_on(&self) -> bool {
        self.prompt_tokens.is_some() || self.trajectory_tokens.is_some()
    }

    pub(super) fn is_pinned(&self, kind: ItemKind) -> bool {
        self.pin.contains(&kind)
    }

    pub(super) fn weight(&self, kind: ItemKind) -> f64 {
        self.priorities.get(&kind).copied().unwrap_or(kind.weight())
    }
}
