//! The figures in a table.

use super::plan::Order;
use super::row::VectorsRow;
use crate::stats::{grouped, median};
use crate::table::cells::percent;
use crate::table::{Column, Table};

/// Rows of one order, length and number of vectors.
type Cell<'a> = ((Order, usize, usize), Vec<&'a VectorsRow>);

/// One line for each length, order and number of vectors, over all documents. Rows that failed are left out and counted in a last
/// sentence.
pub fn table(rows: &[VectorsRow]) -> String {
    let good: Vec<&VectorsRow> = rows.iter().filter(|row| row.failure.is_none()).collect();
    let mut cells: Vec<Cell<'_>> = grouped(good.iter().copied(), |row| (row.order, row.tokens, row.vectors));
    cells.sort_by_key(|(cell, _)| *cell);
    let mut columns: Vec<Column<'_, Cell<'_>>> = vec![
        ("text", &|c| if c.0.0 == Order::Text { "as it is".to_owned() } else { "shuffled".to_owned() }),
        ("tokens", &|c| c.0.1.to_string()),
        ("vectors", &|c| c.0.2.to_string()),
        ("texts", &|c| c.1.len().to_string()),
        ("surprise, nats", &|c| format!("{:.0}", mean(c, &|row| row.surprise))),
        ("gain, nats", &|c| format!("{:.0}", mean(c, &VectorsRow::gain))),
        ("tokens right", &|c| percent(mean(c, &|row| row.right as f64 / row.tokens as f64))),
        ("exact", &|c| format!("{} of {}", c.1.iter().filter(|row| row.exact).count(), c.1.len())),
        ("steps (median)", &|c| format!("{:.0}", median(c.1.iter().map(|row| row.steps as f64)))),
        ("bytes", &|c| format!("{:.0}", mean(c, &|row| row.bytes as f64))),
        ("as text", &|c| format!("{:.0}", mean(c, &|row| row.text_bytes as f64))),
        ("as cache", &|c| format!("{:.0}", mean(c, &|row| row.cache_bytes as f64))),
        ("train / read back / read text, ms", &|c| {
            let of = |field: fn(&VectorsRow) -> f64| median(c.1.iter().map(|row| field(row)));
            format!(
                "{:.0} / {:.0} / {:.0}",
                of(|r| r.train_ms),
                of(|r| r.read_back_ms),
                of(|r| r.read_text_ms)
            )
        }),
    ];
    if cells.iter().any(|(_, rows)| rows.iter().any(|row| row.target.is_some())) {
        columns.push(("retained unread", &|c| retained(&c.1)));
    }
    Table::of(&cells, &columns).to_string()
}

/// Over the rows of a line.
fn mean(cell: &Cell<'_>, of: &dyn Fn(&VectorsRow) -> f64) -> f64 {
    cell.1.iter().map(|row| of(row)).sum::<f64>() / cell.1.len().max(1) as f64
}

/// Of the worth of the text for the targets, with sums over rows.
fn retained(rows: &[&VectorsRow]) -> String {
    let targets: Vec<_> = rows.iter().filter_map(|row| row.target).collect();
    let sum = |of: &dyn Fn(&super::Behind) -> f64| targets.iter().map(of).sum::<f64>();
    let (text, none, vectors) = (sum(&|t| t.text), sum(&|t| t.none), sum(&|t| t.vectors));
    if none - text > 0.0 {
        format!("{:.2}", 1.0 - (vectors - text) / (none - text))
    } else {
        "none to retain".to_owned()
    }
}
