//! From rows to the figures of a table.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::episodes::Kind;
use crate::stats::{median, paired_difference, wilson};
use crate::trial::Row;

/// Accuracy with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of exact matches.
    pub accuracy: f64,
    /// Wilson's 95 % interval.
    pub ci95: [f64; 2],
    /// Questions.
    pub n: usize,
}

impl Accuracy {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let (mut right, mut n) = (0, 0);
        for row in rows {
            right += usize::from(row.right);
            n += 1;
        }
        Self { accuracy: right as f64 / (n.max(1) as f64), ci95: wilson(right, n), n }
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandoffSummary {
    /// Name of the handoff.
    pub name: String,
    /// Share of exact matches over all kinds.
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
pub fn summarise(rows: &[Row]) -> Vec<HandoffSummary> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.handoff.as_str()) {
            names.push(&row.handoff);
        }
    }
    let of = |name: &str| rows.iter().filter(|r| r.handoff == name).collect::<Vec<&Row>>();
    let (full, replay) = (of("full-kv"), of("text-replay"));
    let replayed = (!replay.is_empty()).then(|| mean(&replay, |r| r.worker_tokens as f64));
    names.iter().map(|name| one(name, &of(name), &full, replayed)).collect()
}

fn one(name: &str, rows: &[&Row], full: &[&Row], replayed: Option<f64>) -> HandoffSummary {
    let all = Accuracy::of(rows.iter().copied());
    let worker_tokens = mean(rows, |r| r.worker_tokens as f64);
    let kinds = Kind::ALL.iter().map(|&k| (k, Accuracy::of(rows.iter().copied().filter(|r| r.kind == k))));
    HandoffSummary {
        name: name.to_owned(),
        accuracy: all.accuracy,
        ci95: all.ci95,
        worker_tokens,
        keep_ratio: median(rows.iter().map(|r| r.keep_ratio)),
        brief_ms: median(rows.iter().map(|r| r.brief_ms)),
        answer_ms: median(rows.iter().map(|r| r.answer_ms)),
        saved: replayed.map(|all| 1.0 - worker_tokens / all),
        against_full: paired(rows, full),
        kinds: kinds.filter(|(_, a)| a.n > 0).collect(),
    }
}

fn mean(rows: &[&Row], figure: impl Fn(&Row) -> f64) -> f64 {
    rows.iter().map(|r| figure(r)).sum::<f64>() / rows.len().max(1) as f64
}

fn paired(rows: &[&Row], full: &[&Row]) -> Option<[f64; 3]> {
    let key = |r: &Row| (r.episode, r.question);
    let right_over_full: HashMap<_, bool> = full.iter().map(|r| (key(r), r.right)).collect();
    let pairs: Vec<(bool, bool)> =
        rows.iter().filter_map(|r| right_over_full.get(&key(r)).map(|&f| (r.right, f))).collect();
    (!pairs.is_empty()).then(|| paired_difference(&pairs))
}
