//! What the context manager leaves of recorded trajectories, and what that is worth to a worker.

use std::collections::BTreeMap;
use std::path::Path;

use lb_model::Worker;
use lb_orchestrate::{Form, Item, ItemKind, Managed, ManagerConfig, plan_context};
use lb_session::{CancelToken, Segment};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::logs::LogItem;
use crate::retained::{Measured, RetainedPlan, RetainedRow, run, summarise};
use crate::stats::bootstrap::Bootstrap;
use crate::table::cells::percent;
use crate::table::{Column, Table};

/// What is measured over logs.
pub struct LogPolicies<'a> {
    /// The worker that reads what is left, and whose tokens are counted.
    pub worker: &'a Worker,
    /// How the history is managed.
    pub context: ManagerConfig,
    /// Budgets as shares of each trajectory's tokens.
    pub shares: Vec<f64>,
    /// Other ways to hand over the same trajectories, to compare with.
    pub conditions: Vec<String>,
    /// Tokens of the target.
    pub target_tokens: usize,
    /// A folder for rows, one below it for each share.
    pub out: Option<&'a Path>,
}

/// A way of cutting a trajectory down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogPolicyRow {
    /// Which.
    pub way: String,
    /// Items that were measured.
    pub items: usize,
    /// Tokens of the trajectories, whole.
    pub tokens_before: usize,
    /// Tokens of what was left, for the context manager.
    pub tokens: Option<usize>,
    /// Share of the trajectory's positions that the worker attends to, mean over items.
    pub kept: f64,
    /// Share of the trajectory's worth that is left.
    pub retained: Option<f64>,
    /// Its 95 % interval over documents.
    pub ci95: Option<[f64; 2]>,
    /// Nats a token of the target.
    pub nll: f64,
    /// Items of a kind that is pinned which are not whole, and of these gone.
    pub pinned: Option<(usize, usize)>,
    /// How many items are in which form.
    pub forms: BTreeMap<String, usize>,
}

/// A row for each share with the tokens and forms alone; nothing is read.
///
/// # Errors
/// [`crate::Error::Run`] for a configuration out of range.
pub fn counted_logs(of: &LogPolicies<'_>, items: &[LogItem]) -> Result<Vec<LogPolicyRow>> {
    let row = |share: &f64| {
        let made = items.iter().map(|item| managed(of, item, *share)).collect::<Result<Vec<_>>>()?;
        let mut row = LogPolicyRow { way: name(*share), items: items.len(), ..LogPolicyRow::default() };
        row.count(made.iter().map(|(_, managed)| managed));
        row.kept = row.tokens.unwrap_or(0) as f64 / row.tokens_before.max(1) as f64;
        Ok(row)
    };
    of.shares.iter().map(row).collect()
}

fn name(share: f64) -> String {
    format!("context manager at {:.0} %", 100.0 * share)
}

/// A row for each share, and for each of the other ways.
///
/// # Errors
/// [`crate::Error::Config`] naming the field; those of [`run`].
pub fn over_logs(
    of: &LogPolicies<'_>,
    items: &[LogItem],
    cancel: &CancelToken,
    on_row: &(dyn Fn(&RetainedRow) + Sync),
) -> Result<Vec<LogPolicyRow>> {
    let plan = RetainedPlan {
        conditions: of.conditions.clone(),
        target_tokens: of.target_tokens,
        ..RetainedPlan::default()
    };
    let folder = |name: &str| of.out.map(|dir| dir.join(name));
    let base = run(of.worker, &plan, items, folder("whole").as_deref(), cancel, on_row)?;
    let mut rows = base.rows;
    let own = RetainedPlan { conditions: vec!["full-kv".to_owned()], ..plan };
    let mut figures = Vec::new();
    for share in &of.shares {
        let name = name(*share);
        let made = items.iter().map(|item| managed(of, item, *share)).collect::<Result<Vec<_>>>()?;
        let cut: Vec<LogItem> = made.iter().map(|(item, _)| item.clone()).collect();
        let dir = folder(&format!("managed-{:.0}", 100.0 * share));
        let measured = run(of.worker, &own, &cut, dir.as_deref(), cancel, on_row)?.rows;
        splice(&mut rows, &measured, &name);
        figures.push((name, made));
    }
    let summary = summarise(of.worker.name(), "", &rows, &Bootstrap::default())?;
    let measured: Vec<&str> =
        rows.iter().filter(|row| row.failure.is_none()).map(|row| row.item.as_str()).collect();
    let row = |condition: &crate::retained::ConditionSummary| {
        let mut row = LogPolicyRow {
            way: condition.handoff.clone(),
            items: summary.items,
            kept: condition.kept,
            retained: condition.retained,
            ci95: condition.ci95,
            nll: condition.nll,
            ..LogPolicyRow::default()
        };
        if let Some((_, made)) = figures.iter().find(|(name, _)| *name == condition.handoff) {
            let made = made.iter().filter(|(item, _)| measured.contains(&item.id.as_str()));
            row.count(made.map(|(_, managed)| managed));
        }
        row
    };
    Ok(summary.conditions.iter().map(row).collect())
}

impl LogPolicyRow {
    fn count<'a>(&mut self, made: impl Iterator<Item = &'a Managed>) {
        let (mut tokens, mut pinned) = (0, (0, 0));
        for managed in made {
            self.tokens_before += managed.tokens_before;
            tokens += managed.tokens;
            for left in &managed.left_out {
                let form = serde_json::to_value(left.form).ok();
                let form = form.and_then(|form| form.as_str().map(str::to_owned)).unwrap_or_default();
                *self.forms.entry(form).or_default() += 1;
                if left.pinned {
                    pinned = (pinned.0 + 1, pinned.1 + usize::from(left.form == Form::Gone));
                }
            }
        }
        (self.tokens, self.pinned) = (Some(tokens), Some(pinned));
    }
}

/// The item with what the manager leaves of its trajectory.
fn managed(of: &LogPolicies<'_>, item: &LogItem, share: f64) -> Result<(LogItem, Managed)> {
    let count =
        |text: &str| of.worker.tokenizer().encode_text(text).map_or(text.len(), |tokens| tokens.len());
    let items: Vec<Item> =
        item.trajectory.iter().enumerate().map(|(number, segment)| Item::of(segment, number)).collect();
    let whole: usize = items.iter().map(|item| count(&item.text)).sum();
    let made = plan_context(&items, (whole as f64 * share) as usize, &of.context, &count)?;
    let segment = |kept: &lb_orchestrate::Kept| Segment {
        text: kept.text.clone(),
        ..item.trajectory[kept.index].clone()
    };
    let trajectory = made.kept.iter().map(segment).collect();
    Ok((LogItem { trajectory, ..item.clone() }, made))
}

/// What is behind the whole of a managed trajectory is another condition of the original one. A row without it is a failure.
fn splice(rows: &mut [RetainedRow], measured: &[RetainedRow], name: &str) {
    for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
        match measured.iter().find(|other| other.item == row.item && other.failure.is_none()) {
            Some(other) => {
                let kept = other.seq_len as f64 / row.seq_len.max(1) as f64;
                // Agreement and KL are those with its own cache, which is not what they mean here.
                let (agreement, kl) = (0.0, 0.0);
                row.conditions.push(Measured {
                    handoff: name.to_owned(),
                    kept,
                    agreement,
                    kl,
                    ..other.full.clone()
                });
            }
            None => row.failure = Some(format!("{name}: not measured")),
        }
    }
}

/// One row for each way.
pub fn log_table(rows: &[LogPolicyRow]) -> String {
    let columns: &[Column<'_, LogPolicyRow>] = &[
        ("way", &|row| row.way.clone()),
        ("positions kept", &|row| percent(row.kept)),
        ("retained (95 %)", &|row| match (row.retained, row.ci95) {
            (Some(retained), Some([low, high])) => format!("{retained:.2} ({low:.2} to {high:.2})"),
            _ => "-".to_owned(),
        }),
        ("nats", &|row| format!("{:.3}", row.nll)),
        ("tokens", &|row| {
            row.tokens.map_or_else(String::new, |tokens| format!("{tokens} of {}", row.tokens_before))
        }),
        ("forms", &|row| {
            let forms: Vec<String> = row.forms.iter().map(|(form, n)| format!("{n} {form}")).collect();
            forms.join(", ")
        }),
        ("pinned, not whole", &|row| {
            row.pinned.map_or_else(String::new, |(all, gone)| format!("{all}, of these gone {gone}"))
        }),
    ];
    Table::of(rows, columns).to_string()
}

/// How many items of each kind the logs have, for those who set weights.
pub fn kinds(items: &[LogItem]) -> BTreeMap<ItemKind, usize> {
    let mut kinds = BTreeMap::new();
    for segment in items.iter().flat_map(|item| &item.trajectory) {
        *kinds.entry(ItemKind::of(segment)).or_default() += 1;
    }
    kinds
}
