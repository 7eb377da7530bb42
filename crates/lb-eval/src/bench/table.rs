//! What came out, in a table.

use std::collections::HashMap;

use super::BenchRow;
use crate::report::new_table;
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
    let mut table = new_table(&head);
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
        table.add_row(vec![
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
        ]);
    }
    table.to_string()
}

fn key(row: &BenchRow) -> (&str, usize) {
    (&row.item, row.repeat)
}
