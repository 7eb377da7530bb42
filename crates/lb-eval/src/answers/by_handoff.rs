//! The short form: one line for each handoff, and its kinds of question apart.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::AnswerRow;
use crate::episodes::Kind;
use crate::stats::{Accuracy, grouped, mean, median, paired_difference};
use crate::table::cells::{ends, percent};
use crate::table::{Column, Table};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandoffSummary {
    /// Name of the handoff.
    pub name: String,
    /// Share of right answers over all kinds.
    pub accuracy: f64,
    /// Wilson's 95 % interval of it.
    pub ci95: [f64; 2],
    /// Mean worker tokens a question.
    pub worker_tokens: f64,
    /// Median keep ratio.
    pub keep_ratio: f64,
    /// Median milliseconds to make the selection or the briefing.
    pub brief_ms: f64,
    /// Median milliseconds to answer.
    pub answer_ms: f64,
    /// Share of worker tokens saved against text replay; `None` where that was not run.
    pub saved: Option<f64>,
    /// Accuracy minus that of the full cache on the same questions, with its 95 % interval: difference, low, high.
    pub against_full: Option<[f64; 3]>,
    /// Each kind of question apart.
    pub kinds: Vec<(Kind, Accuracy)>,
}

/// One summary per handoff, in the order of first appearance.
pub fn summarise(rows: &[AnswerRow]) -> Vec<HandoffSummary> {
    let handoffs = grouped(rows, |row| row.condition.as_str());
    let of = |name: &str| handoffs.iter().find(|(other, _)| *other == name).map(|(_, rows)| rows.as_slice());
    let tokens = |rows: &[&AnswerRow]| mean(rows.iter().map(|r| r.worker_tokens() as f64));
    let (full, replayed) = (of("full-kv").unwrap_or_default(), of("text-replay").map(tokens));
    let one = |(name, rows): &(&str, Vec<&AnswerRow>)| {
        let all = Accuracy::of(rows.iter().map(|r| r.right()));
        let of_kind = |kind: Kind| rows.iter().filter(move |r| r.kind == kind.name()).map(|r| r.right());
        let kinds = Kind::ALL.into_iter().map(|kind| (kind, Accuracy::of(of_kind(kind))));
        HandoffSummary {
            name: (*name).to_owned(),
            accuracy: all.accuracy,
            ci95: all.ci95,
            worker_tokens: tokens(rows),
            keep_ratio: median(rows.iter().filter_map(|r| r.keep_ratio)),
            brief_ms: median(rows.iter().map(|r| 1e3 * r.brief_s)),
            answer_ms: median(rows.iter().map(|r| 1e3 * (r.prefill_s + r.decode_s))),
            saved: replayed.map(|all| 1.0 - tokens(rows) / all),
            against_full: paired(rows, full),
            kinds: kinds.filter(|(_, a)| a.n > 0).collect(),
        }
    };
    handoffs.iter().map(one).collect()
}

fn paired(rows: &[&AnswerRow], full: &[&AnswerRow]) -> Option<[f64; 3]> {
    let right_over_full: HashMap<_, bool> = full.iter().map(|r| (r.key(), r.right())).collect();
    let pairs: Vec<(bool, bool)> =
        rows.iter().filter_map(|r| right_over_full.get(&r.key()).map(|&f| (r.right(), f))).collect();
    (!pairs.is_empty()).then(|| paired_difference(&pairs))
}

/// The main table, one line per handoff.
pub fn table(summaries: &[HandoffSummary]) -> String {
    let columns: &[Column<'_, HandoffSummary>] = &[
        ("handoff", &|s| s.name.clone()),
        ("accuracy", &|s| percent(s.accuracy)),
        ("95 % interval", &|s| ends(s.ci95)),
        ("worker tokens", &|s| format!("{:.0}", s.worker_tokens)),
        ("saved", &|s| s.saved.map_or_else(String::new, percent)),
        ("keep ratio", &|s| format!("{:.3}", s.keep_ratio)),
        ("brief ms", &|s| format!("{:.1}", s.brief_ms)),
        ("answer ms", &|s| format!("{:.1}", s.answer_ms)),
    ];
    Table::of(summaries, columns).to_string()
}

/// Accuracy of each handoff by kind of question.
pub fn kinds_table(summaries: &[HandoffSummary]) -> String {
    let present = |kind: &Kind| summaries.iter().any(|s| find(s, *kind).is_some());
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(present).collect();
    let count = |kind: Kind| summaries.first().and_then(|s| find(s, kind)).map_or(0, |a| a.n);
    let heads = kinds.iter().map(|&k| format!("{} (n = {})", k.name(), count(k)));
    let mut table = Table::new(std::iter::once("by kind".to_owned()).chain(heads));
    for s in summaries {
        let cell = |a: Accuracy| format!("{} [{}]", percent(a.accuracy), ends(a.ci95));
        let cells = kinds.iter().map(|&k| find(s, k).map_or_else(String::new, cell));
        table.push(std::iter::once(s.name.clone()).chain(cells).collect());
    }
    table.to_string()
}

fn find(summary: &HandoffSummary, kind: Kind) -> Option<Accuracy> {
    summary.kinds.iter().find(|(k, _)| *k == kind).map(|(_, a)| *a)
}
