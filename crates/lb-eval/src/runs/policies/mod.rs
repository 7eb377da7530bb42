//! What each policy of the loop saves, alone, over the same recorded runs.
//!
//! [`replayed`] takes runs with the worker through the loop once more, with one policy on; [`counted`] works out from the record
//! alone what a policy of the orchestrator's side would have saved, since a recorded orchestrator says the same whatever it is
//! shown; [`over_logs`] measures what the context manager leaves of other programs' trajectories.

mod counted;
mod logs;
mod replayed;

use lb_orchestrate::{PriceTable, Usage};
use serde::{Deserialize, Serialize};

pub use counted::{Counted, counted};
pub use logs::{LogPolicies, LogPolicyRow, counted_logs, kinds, log_table, over_logs};
pub use replayed::{ReplayPolicies, replayed};

use crate::table::cells::percent;
use crate::table::{Column, Table};

/// One policy over all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// The policy, with its setting.
    pub policy: String,
    /// What its tokens are of: `prompts` of the orchestrator, `computed` by the worker, or both.
    pub tokens_of: String,
    /// Runs.
    pub runs: usize,
    /// Tokens without it.
    pub tokens_before: usize,
    /// Tokens with it.
    pub tokens: usize,
    /// Money without it, at the price table.
    pub cost_before: f64,
    /// Money with it.
    pub cost: f64,
    /// Runs whose answer is another one; none where a record cannot tell.
    pub answers_changed: Option<usize>,
    /// Worker replies that are others, of all; none where no worker was asked again.
    pub replies_changed: Option<(usize, usize)>,
    /// Seconds of the worker without it.
    pub seconds_before: f64,
    /// Seconds of the worker with it.
    pub seconds: f64,
    /// What else there is to say.
    pub note: String,
}

impl PolicyRow {
    /// Share of the tokens that it saves; 0 where there were none.
    pub fn tokens_saved(&self) -> f64 {
        if self.tokens_before == 0 { 0.0 } else { 1.0 - self.tokens as f64 / self.tokens_before as f64 }
    }

    /// Share of the money that it saves; none where nothing cost anything.
    pub fn cost_saved(&self) -> Option<f64> {
        (self.cost_before > 0.0).then(|| 1.0 - self.cost / self.cost_before)
    }
}

/// One row for each policy.
pub fn table(rows: &[PolicyRow]) -> String {
    let columns: &[Column<'_, PolicyRow>] = &[
        ("policy", &|row| row.policy.clone()),
        ("runs", &|row| row.runs.to_string()),
        ("tokens", &|row| row.tokens_of.clone()),
        ("without", &|row| row.tokens_before.to_string()),
        ("with", &|row| row.tokens.to_string()),
        ("saved", &|row| percent(row.tokens_saved())),
        ("money saved", &|row| row.cost_saved().map_or_else(|| "-".to_owned(), percent)),
        ("answers changed", &|row| {
            row.answers_changed.map_or_else(|| "not known".to_owned(), |n| n.to_string())
        }),
        ("replies changed", &|row| {
            row.replies_changed.map_or_else(|| "-".to_owned(), |(changed, all)| format!("{changed} of {all}"))
        }),
        ("", &|row| row.note.clone()),
    ];
    Table::of(rows, columns).to_string()
}

/// Money for an orchestrator's tokens; nothing where the model has no price.
fn model_cost(prices: &PriceTable, model: &str, usage: &Usage) -> f64 {
    prices.model(model).map_or(0.0, |price| price.of(usage))
}
