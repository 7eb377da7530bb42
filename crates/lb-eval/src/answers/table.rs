//! What came out, in a table.

use std::collections::HashMap;

use super::BenchRow;
use super::letters::against;
use crate::report::new_table;
use crate::stats::bootstrap::{Bootstrap, interval};
use crate::stats::{median, paired_difference, wilson};

const FULL: &str = "full-kv";

/// One line for each condition, in the order of `conditions`: accuracy with its 95 % interval, failures counted as wrong;
/// the difference to the full cache on the same items and turns; median worker tokens of an item.
pub fn table(rows: &[BenchRow], conditions: &[String]) -> String {
    let head = [
        "condition",
        "right",
        "accuracy (95 %)",
        "against full-kv",
        "kept",
        "worker tokens, median",
        "failed",
    ];
    let with_letters = rows.iter().any(|row| row.letters.is_some());
    let head = [&head[..], if with_letters { &["letter as full-kv", "KL, nats"] } else { &[] }].concat();
    let mut table = new_table(&head);
    let letters_of_full: HashMap<_, _> = rows
        .iter()
        .filter(|row| row.condition == FULL)
        .filter_map(|row| Some((key(row), row.letters.as_ref()?)))
        .collect();
    let full: HashMap<_, _> =
        rows.iter().filter(|row| row.condition == FULL).map(|row| (key(row), row.right())).collect();
    for name in conditions {
        let own: Vec<&BenchRow> = rows.iter().filter(|row| row.condition == *name).collect();
        let right = own.iter().filter(|row| row.right()).count();
        let [low, high] = wilson(right, own.len());
        let pairs: Vec<_> = own.iter().filter_map(|row| Some((row.right(), *full.get(&key(row))?))).collect();
        let difference = if pairs.is_empty() || name == FULL {
            String::new()
        } else {
            let [d, low, high] = paired_difference(&pairs).map(|x| 100.0 * x);
            format!("{d:+.1} ({low:+.1} to {high:+.1})")
        };
        let kept: Vec<f64> = own.iter().filter_map(|row| row.keep_ratio).collect();
        let mut line = vec![
            name.clone(),
            format!("{right} of {}", own.len()),
            format!(
                "{:.1} % ({:.1}–{:.1})",
                100.0 * right as f64 / own.len().max(1) as f64,
                100.0 * low,
                100.0 * high
            ),
            difference,
            format!("{:.1} %", 100.0 * kept.iter().sum::<f64>() / kept.len().max(1) as f64),
            format!("{:.0}", median(own.iter().map(|row| row.worker_tokens() as f64))),
            own.iter().filter(|row| row.failure.is_some()).count().to_string(),
        ];
        if with_letters {
            let both: Vec<(f64, f64)> = own
                .iter()
                .filter_map(|row| against(row.letters.as_ref()?, letters_of_full.get(&key(row))?))
                .collect();
            line.extend(letter_cells(&both, name == FULL));
        }
        table.add_row(line);
    }
    table.to_string()
}

/// Agreement with Wilson's interval, mean divergence with one of a bootstrap over rows.
fn letter_cells(both: &[(f64, f64)], reference: bool) -> [String; 2] {
    if both.is_empty() || reference {
        return Default::default();
    }
    let same = both.iter().filter(|(same, _)| *same > 0.5).count();
    let [low, high] = wilson(same, both.len()).map(|share| 100.0 * share);
    let share = 100.0 * same as f64 / both.len() as f64;
    let mean = |drawn: &[usize]| drawn.iter().map(|&i| both[i].1).sum::<f64>() / drawn.len().max(1) as f64;
    let settings = Bootstrap { resamples: 2_000, ..Bootstrap::default() };
    let kl = match interval(both.len(), &settings, mean) {
        Ok(kl) => format!("{:.3} ({:.3}–{:.3})", kl.estimate, kl.low, kl.high),
        Err(_) => String::new(),
    };
    [format!("{share:.1} % ({low:.1}–{high:.1})"), kl]
}

fn key(row: &BenchRow) -> (&str, usize) {
    (&row.item, row.repeat)
}
