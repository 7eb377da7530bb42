//! What came out, in a table for a terminal.

use super::AnswerRow;
use super::figures::{ByKey, of};
use crate::stats::bootstrap::{Bootstrap, interval};
use crate::stats::{Accuracy, mean, median, paired_difference};
use crate::table::cells::{accuracy, difference, percent};
use crate::table::{Column, Table};

const FULL: &str = "full-kv";

/// A condition with its rows, and those that the full cache has of the same.
struct Line<'a> {
    name: &'a str,
    rows: Vec<&'a AnswerRow>,
    pairs: Vec<(&'a AnswerRow, &'a AnswerRow)>,
    letters: [String; 2],
}

/// One line for each condition, in the order of `conditions`: accuracy with its 95 % interval, failures counted as wrong;
/// the difference to the full cache on the same items and turns; median worker tokens of an item.
pub fn table(rows: &[AnswerRow], conditions: &[String]) -> String {
    let full = of(&rows.iter().collect::<Vec<_>>(), FULL);
    let columns: &[Column<'_, Line<'_>>] = &[
        ("condition", &|line| line.name.to_owned()),
        ("right", &|line| format!("{} of {}", count(line, AnswerRow::right), line.rows.len())),
        ("accuracy (95 %)", &|line| accuracy(Accuracy::of(line.rows.iter().map(|row| row.right())))),
        ("against full-kv", &|line| {
            let both: Vec<_> = line.pairs.iter().map(|(a, b)| (a.right(), b.right())).collect();
            if both.is_empty() { String::new() } else { difference(paired_difference(&both)) }
        }),
        ("kept", &|line| percent(mean(line.rows.iter().filter_map(|row| row.keep_ratio)))),
        ("worker tokens, median", &|line| {
            format!("{:.0}", median(line.rows.iter().map(|row| row.worker_tokens() as f64)))
        }),
        ("failed", &|line| count(line, |row| row.failure.is_some()).to_string()),
        ("letter as full-kv", &|line| line.letters[0].clone()),
        ("KL, nats", &|line| line.letters[1].clone()),
    ];
    let with_letters = rows.iter().any(|row| row.letters.is_some());
    let columns = if with_letters { columns } else { &columns[..columns.len() - 2] };
    let lines: Vec<Line<'_>> = conditions.iter().map(|name| line(rows, name, &full)).collect();
    Table::of(&lines, columns).to_string()
}

fn line<'a>(rows: &'a [AnswerRow], name: &'a str, full: &ByKey<'a>) -> Line<'a> {
    let rows: Vec<&AnswerRow> = rows.iter().filter(|row| row.condition == name).collect();
    let compared = rows.iter().filter(|_| name != FULL);
    let pairs: Vec<_> = compared.filter_map(|row| Some((*row, *full.get(&row.key())?))).collect();
    Line { name, letters: letters(&pairs), rows, pairs }
}

fn count(line: &Line<'_>, of: impl Fn(&AnswerRow) -> bool) -> usize {
    line.rows.iter().filter(|row| of(row)).count()
}

/// Agreement with Wilson's interval, mean divergence with one of a bootstrap over rows.
fn letters(pairs: &[(&AnswerRow, &AnswerRow)]) -> [String; 2] {
    let both: Vec<(f64, f64)> = pairs.iter().filter_map(|(own, full)| own.letters_against(full)).collect();
    if both.is_empty() {
        return Default::default();
    }
    let same = Accuracy::of(both.iter().map(|(same, _)| *same > 0.5));
    let mean = |drawn: &[usize]| drawn.iter().map(|&i| both[i].1).sum::<f64>() / drawn.len().max(1) as f64;
    let settings = Bootstrap { resamples: 2_000, ..Bootstrap::default() };
    let kl = interval(both.len(), &settings, mean);
    let kl =
        kl.map_or_else(|_| String::new(), |kl| format!("{:.3} ({:.3}–{:.3})", kl.estimate, kl.low, kl.high));
    [accuracy(same), kl]
}
