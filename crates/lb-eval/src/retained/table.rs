//! The figures in a table.

use super::summary::{ConditionSummary, RetainedSummary};
use crate::report::new_table;

/// One line for each condition, in the order of the plan.
pub fn table(summary: &RetainedSummary) -> String {
    let against = summary.conditions.iter().any(|c| c.difference.is_some());
    let mut head = vec!["handoff", "retained (95 %)"];
    head.extend(against.then_some("against the first briefing of its size"));
    head.extend(["agreement", "KL, nats", "nats a token", "kept", "worker tokens", "brief ms"]);
    let mut table = new_table(&head);
    for c in &summary.conditions {
        let mut row = vec![c.handoff.clone(), retained(c)];
        if against {
            row.push(difference(c));
        }
        row.extend([
            format!("{:.1} %", 100.0 * c.agreement),
            format!("{:.3}", c.kl),
            format!("{:.3}", c.nll),
            format!("{:.1} %", 100.0 * c.kept),
            format!("{:.0}", c.worker_tokens),
            format!("{:.0}", c.brief_ms),
        ]);
        table.add_row(row);
    }
    table.to_string()
}

fn retained(c: &ConditionSummary) -> String {
    match (c.retained, c.ci95) {
        (Some(retained), Some([low, high])) if low < high => {
            format!("{retained:.2} ({low:.2} to {high:.2})")
        }
        (Some(retained), _) => format!("{retained:.2}"),
        _ => "none to retain".to_owned(),
    }
}

fn difference(c: &ConditionSummary) -> String {
    c.difference.as_ref().map_or_else(String::new, |d| {
        let [low, high] = d.ci95;
        format!("{:+.2} ({low:+.2} to {high:+.2})", d.retained)
    })
}
