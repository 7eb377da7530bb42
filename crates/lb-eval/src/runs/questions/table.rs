//! Tables of runs and of their replays.

use std::fmt::Write;

use super::{Outcome, QuestionRow, ReplayedRow};
use crate::metrics::ShortScore;
use crate::report::new_table;
use crate::stats::wilson;

/// Characters of a question or an answer in a table.
const CHARS: usize = 48;

/// One line for each run, then how many of them were right, and the others by kind.
pub fn summary(rows: &[QuestionRow]) -> String {
    let mut table = new_table(&["id", "question", "right", "answer", "exact", "F1", "turns", "calls", "s"]);
    for row in rows {
        let said = row.answer.as_deref().or(row.stopped.as_deref()).unwrap_or_default();
        table.add_row(vec![
            short(&row.id, 10),
            short(&row.question, CHARS),
            short(row.answers.first().map_or("", String::as_str), CHARS / 2),
            short(said, CHARS / 2),
            if row.score.exact { "yes" } else { "" }.to_owned(),
            format!("{:.2}", row.score.f1),
            row.turns.to_string(),
            row.calls.to_string(),
            format!("{:.0}", row.seconds),
        ]);
    }
    let mut text = table.to_string();
    let scores: Vec<ShortScore> = rows.iter().map(|row| row.score).collect();
    let asked = rows.iter().filter(|row| row.calls > 0).count();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{}; a worker was asked in {asked} of {} runs.", figures(&scores), rows.len());
    for outcome in Outcome::ALL {
        let ids: Vec<&str> =
            rows.iter().filter(|row| row.outcome == outcome).map(|row| row.id.as_str()).collect();
        if outcome != Outcome::Right && !ids.is_empty() {
            let _ = writeln!(text, "{} {}: {}", ids.len(), outcome.name(), ids.join(", "));
        }
    }
    text
}

/// One line for each handoff over the same runs.
pub fn replay_table(rows: &[ReplayedRow]) -> String {
    let mut table = new_table(&[
        "handoff",
        "exact (95 %)",
        "F1",
        "contained",
        "in a reply",
        "kept",
        "worker tokens",
        "computed",
        "ms a call",
    ]);
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.handoff.as_str()) {
            names.push(&row.handoff);
        }
    }
    for name in names {
        let of: Vec<&ReplayedRow> = rows.iter().filter(|row| row.handoff == name).collect();
        let n = of.len().max(1) as f64;
        let count = |right: fn(&ReplayedRow) -> bool| of.iter().filter(|row| right(row)).count();
        let mean = |value: fn(&ReplayedRow) -> f64| of.iter().map(|row| value(row)).sum::<f64>() / n;
        let calls = of.iter().map(|row| row.calls).sum::<usize>().max(1) as f64;
        let a_call = |value: fn(&ReplayedRow) -> f64| of.iter().map(|row| value(row)).sum::<f64>() / calls;
        let ratios: Vec<f64> = of.iter().filter_map(|row| row.keep_ratio).collect();
        let kept = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
        let exact = count(|row| row.score.exact);
        let [low, high] = wilson(exact, of.len()).map(|x| 100.0 * x);
        table.add_row(vec![
            name.to_owned(),
            format!("{exact} of {} ({low:.0}–{high:.0} %)", of.len()),
            format!("{:.2}", mean(|row| row.score.f1)),
            count(|row| row.score.contained).to_string(),
            count(|row| row.replies.contained).to_string(),
            format!("{:.1} %", 100.0 * kept),
            format!("{:.0}", a_call(|row| row.worker_tokens as f64)),
            format!("{:.0}", a_call(|row| row.computed as f64)),
            format!("{:.0}", 1e3 * a_call(|row| row.seconds)),
        ]);
    }
    table.to_string()
}

fn figures(scores: &[ShortScore]) -> String {
    let n = scores.len();
    let exact = scores.iter().filter(|score| score.exact).count();
    let contained = scores.iter().filter(|score| score.contained).count();
    let f1 = scores.iter().map(|score| score.f1).sum::<f64>() / n.max(1) as f64;
    format!("{exact} of {n} right by exact match, {contained} contain a right answer, F1 {f1:.3}")
}

fn short(text: &str, chars: usize) -> String {
    let line = text.replace(['\n', '\r'], " ");
    if line.chars().count() <= chars {
        return line;
    }
    let cut: String = line.chars().take(chars - 1).collect();
    format!("{cut}…")
}
