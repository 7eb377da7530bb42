//! What runs came to, in a table.

use std::fmt::Write;

use super::{Outcome, QuestionRow};
use crate::metrics::ShortScore;
use crate::table::{Column, Table};

/// Characters of a question or an answer in a table.
const CHARS: usize = 48;

/// One line for each run, then how many of them were right, and the others by kind.
pub fn summary(rows: &[QuestionRow]) -> String {
    let columns: &[Column<'_, QuestionRow>] = &[
        ("id", &|row| short(&row.id, 10)),
        ("question", &|row| short(&row.question, CHARS)),
        ("right", &|row| short(row.answers.first().map_or("", String::as_str), CHARS / 2)),
        ("answer", &|row| {
            short(row.answer.as_deref().or(row.stopped.as_deref()).unwrap_or_default(), CHARS / 2)
        }),
        ("exact", &|row| if row.score.exact { "yes" } else { "" }.to_owned()),
        ("F1", &|row| format!("{:.2}", row.score.f1)),
        ("turns", &|row| row.turns.to_string()),
        ("calls", &|row| row.calls.to_string()),
        ("s", &|row| format!("{:.0}", row.seconds)),
    ];
    let mut text = Table::of(rows, columns).to_string();
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
