//! What each choice of a model cost and saved.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Signals;
use crate::Usage;

/// What one model did for a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelUse {
    /// Its name.
    pub model: String,
    /// Tokens, where it said anything.
    pub usage: Usage,
    /// Why its reply was not taken; none for the one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A model that was not the one in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fall {
    /// Its name.
    pub model: String,
    /// Why: a failure, a reply that was not taken, a limit.
    pub why: String,
}

/// One turn's choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// What it went by.
    pub signals: Signals,
    /// The rule whose order was taken, from 1; none for the chain's own.
    pub rule: Option<usize>,
    /// Whose reply was taken; none where all failed.
    pub model: Option<String>,
    /// Who was asked before it, or passed over.
    pub fell: Vec<Fall>,
    /// Tokens, those of replies that were not taken counted in.
    pub usage: Usage,
    /// What they cost; none where a price is missing.
    pub cost: Option<f64>,
    /// What the taken reply's tokens would have cost with the reference alone.
    pub reference_cost: Option<f64>,
}

impl Choice {
    /// Money that the choice saved against the reference; less than nothing where it cost more.
    pub fn saved(&self) -> Option<f64> {
        Some(self.reference_cost? - self.cost?)
    }
}

/// What became of one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// Its name.
    pub model: String,
    /// Requests.
    pub requests: usize,
    /// Of them, those whose reply was taken.
    pub taken: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those whose reply was not taken.
    pub refused: usize,
    /// Turns in which it was passed over: a limit, or it had just failed.
    pub passed_over: usize,
    /// Its tokens.
    pub usage: Usage,
    /// Seconds.
    pub seconds: f64,
    /// Money.
    pub cost: Option<f64>,
}

/// What a chain did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChainReport {
    /// Currency, where there are prices.
    pub currency: Option<String>,
    /// The model that choices are compared with.
    pub reference: Option<String>,
    /// By model, in the order of the chain.
    pub models: Vec<ModelReport>,
    /// Turn by turn.
    pub choices: Vec<Choice>,
}

impl ChainReport {
    /// Money of all turns; none where a price is missing.
    pub fn cost(&self) -> Option<f64> {
        self.choices.iter().map(|choice| choice.cost).sum()
    }

    /// Money that all choices saved against the reference.
    pub fn saved(&self) -> Option<f64> {
        self.choices.iter().map(Choice::saved).sum()
    }
}

impl fmt::Display for ChainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let currency = self.currency.as_deref().unwrap_or_default();
        for model in &self.models {
            let cost = model.cost.map(|cost| format!(", {cost:.4} {currency}")).unwrap_or_default();
            writeln!(
                f,
                "{}: {} requests, {} taken, {} failed, {} refused, passed over {} times; {} tokens in, {} out{cost}",
                model.model,
                model.requests,
                model.taken,
                model.failed,
                model.refused,
                model.passed_over,
                model.usage.input,
                model.usage.output
            )?;
        }
        match (self.saved(), &self.reference) {
            (Some(saved), Some(reference)) => {
                write!(f, "Against {reference} alone: {saved:.4} {currency} saved.")
            }
            _ => write!(f, "What it saved is not known: a price is missing."),
        }
    }
}
