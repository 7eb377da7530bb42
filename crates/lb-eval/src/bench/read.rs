//! Rows from their file.

use std::collections::BTreeMap;
use std::path::Path;

use super::BenchRow;
use crate::lines::{fault, read_lines};
use crate::store::ROWS;
use crate::{Error, Result};

/// The rows of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// In the order of the file.
    pub rows: Vec<BenchRow>,
    /// Bytes of a last line that was cut off, as a run that was stopped leaves it. It is left out.
    pub torn: usize,
}

/// Reads `rows.jsonl` in `dir`.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::Json`] for a line that is no row and [`Error::Row`] for a value
/// that cannot be, both with file and line; [`Error::DuplicateRow`] for an item that has two rows under one condition and
/// repeat.
pub fn read_rows(dir: impl AsRef<Path>) -> Result<Rows> {
    let path = dir.as_ref().join(ROWS);
    let mut rows = Vec::new();
    let mut seen: BTreeMap<(String, String, usize), usize> = BTreeMap::new();
    let torn = read_lines(&path, &mut |number, row: BenchRow| {
        check(&row, &path, number)?;
        let key = (row.item.clone(), row.condition.clone(), row.repeat);
        if let Some(first) = seen.insert(key, number) {
            let BenchRow { item, condition, repeat, .. } = row;
            let path = path.clone();
            return Err(Error::DuplicateRow { path, first, second: number, item, condition, repeat });
        }
        rows.push(row);
        Ok(())
    })?;
    Ok(Rows { rows, torn })
}

/// Values without which no figure is right.
fn check(row: &BenchRow, path: &Path, line: usize) -> Result<()> {
    for (field, text) in [("item", &row.item), ("condition", &row.condition)] {
        if text.is_empty() {
            return Err(fault(path, line, field, "\"\"".to_owned(), "want a name"));
        }
    }
    for (field, share) in [("score", Some(row.score)), ("keep_ratio", row.keep_ratio)] {
        if let Some(share) = share.filter(|s| !(0.0..=1.0).contains(s)) {
            return Err(fault(path, line, field, share.to_string(), "want 0 to 1"));
        }
    }
    let seconds = [
        ("brief_s", row.brief_s),
        ("prefill_s", row.prefill_s),
        ("decode_s", row.decode_s),
        ("elapsed_s", row.elapsed_s),
    ];
    for (field, s) in seconds {
        if !(0.0..=1e12).contains(&s) {
            return Err(fault(path, line, field, s.to_string(), "want seconds, 0 or more"));
        }
    }
    Ok(())
}
