//! Tables and files.

use std::path::Path;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, LineStyle, Table};
use lb_io::files::write_whole;

use crate::episodes::Kind;
use crate::summary::{Accuracy, HandoffSummary};
use crate::{Error, Result};

/// An error and its causes on one line, none said twice.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| match cause.to_string() {
        said if text.ends_with(&said) => text,
        new => format!("{text}: {new}"),
    })
}

/// The main table, one line per handoff.
pub fn table(summaries: &[HandoffSummary]) -> String {
    let mut table = new_table(&[
        "handoff",
        "accuracy",
        "95 % interval",
        "worker tokens",
        "saved",
        "keep ratio",
        "brief ms",
        "answer ms",
    ]);
    for s in summaries {
        table.add_row(vec![
            s.name.clone(),
            percent(s.accuracy),
            interval(s.ci95),
            format!("{:.0}", s.worker_tokens),
            s.saved.map_or_else(String::new, percent),
            format!("{:.3}", s.keep_ratio),
            format!("{:.1}", s.brief_ms),
            format!("{:.1}", s.answer_ms),
        ]);
    }
    table.to_string()
}

/// Accuracy of each handoff by kind of question.
pub fn kinds_table(summaries: &[HandoffSummary]) -> String {
    let present = |kind: &Kind| summaries.iter().any(|s| s.kinds.iter().any(|(k, _)| k == kind));
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(present).collect();
    let mut header = vec!["by kind".to_owned()];
    let count = |kind: Kind| summaries.first().and_then(|s| find(s, kind)).map_or(0, |a| a.n);
    header.extend(kinds.iter().map(|&k| format!("{} (n = {})", k.name(), count(k))));
    let mut table = new_table(&header);
    for s in summaries {
        let mut row = vec![s.name.clone()];
        row.extend(kinds.iter().map(|&k| {
            find(s, k).map_or_else(String::new, |a| format!("{} [{}]", percent(a.accuracy), interval(a.ci95)))
        }));
        table.add_row(row);
    }
    table.to_string()
}

fn find(summary: &HandoffSummary, kind: Kind) -> Option<Accuracy> {
    summary.kinds.iter().find(|(k, _)| *k == kind).map(|(_, a)| *a)
}

pub(crate) fn new_table<T: ToString>(header: &[T]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_header(header.iter().map(ToString::to_string).collect::<Vec<_>>());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{:.1}–{:.1}", 100.0 * low, 100.0 * high)
}

/// Writes a whole file or nothing, see [`Output`](lb_io::files::Output).
///
/// # Errors
/// [`Error::Io`] names the file.
pub fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    write_whole(path, content).map_err(|source| Error::Io { path: path.to_owned(), source })
}
