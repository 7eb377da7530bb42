//! The figures in a table.

use super::summary::{ConditionSummary, RetainedSummary};
use crate::table::cells::{percent, retained};
use crate::table::{Column, Table};

/// One line for each condition, in the order of the plan.
pub fn table(summary: &RetainedSummary) -> String {
    let mut columns: Vec<Column<'_, ConditionSummary>> = vec![
        ("handoff", &|c| c.handoff.clone()),
        ("retained (95 %)", &|c| retained(c.retained.map(|kept| (kept, c.ci95.unwrap_or([kept; 2]))))),
        ("against the first briefing of its size", &difference),
        ("agreement", &|c| percent(c.agreement)),
        ("KL, nats", &|c| format!("{:.3}", c.kl)),
        ("nats a token", &|c| format!("{:.3}", c.nll)),
        ("kept", &|c| percent(c.kept)),
        ("worker tokens", &|c| format!("{:.0}", c.worker_tokens)),
        ("made of", &|c| format!("{:.0}", c.made_tokens)),
        ("within", &|c| c.within.map_or_else(String::new, percent)),
        ("brief ms", &|c| format!("{:.0}", c.brief_ms)),
        ("of reading", &|c| c.brief_share.map_or_else(String::new, percent)),
    ];
    if summary.conditions.iter().all(|c| c.brief_share.is_none()) {
        columns.pop();
    }
    if summary.conditions.iter().all(|c| c.within.is_none()) {
        columns.retain(|(name, _)| *name != "within");
    }
    if summary.conditions.iter().any(|c| c.rank.is_some()) {
        columns.push(("rank of keys, values", &|c| {
            c.rank.map_or_else(String::new, |rank| format!("{:.1}, {:.1}", rank.keys, rank.values))
        }));
    }
    if summary.conditions.iter().all(|c| c.difference.is_none()) {
        columns.remove(2);
    }
    Table::of(&summary.conditions, &columns).to_string()
}

fn difference(c: &ConditionSummary) -> String {
    c.difference.as_ref().map_or_else(String::new, |d| {
        let [low, high] = d.ci95;
        format!("{:+.2} ({low:+.2} to {high:+.2})", d.retained)
    })
}
