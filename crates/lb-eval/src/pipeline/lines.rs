//! Rows from their file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use lb_io::files::open_regular;
use serde::de::DeserializeOwned;

use super::BenchRow;
use crate::{Error, Result};

/// The file of the rows, in the folder of a run.
pub const ROWS: &str = "rows.jsonl";
/// Bytes of a line; an answer of a worker is far shorter.
const LONGEST: u64 = 16 << 20;

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

/// Gives every line of a file of JSON Lines to `each`, with its number from 1. A last line that was cut off, as a run that
/// was stopped leaves it, is left out; how many bytes it has is returned.
pub(crate) fn read_lines<R: DeserializeOwned>(
    path: &Path,
    each: &mut dyn FnMut(usize, R) -> Result<()>,
) -> Result<usize> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = BufReader::new(open_regular(path).map_err(io)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = (&mut file).take(LONGEST).read_until(b'\n', &mut line).map_err(io)?;
        if n == 0 {
            break;
        }
        let whole = line.ends_with(b"\n");
        if !whole && n as u64 == LONGEST {
            return Err(fault(path, number, "line", format!("{n} bytes or more"), "want at most 16 MiB"));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(row) => each(number, row)?,
            Err(_) if !whole => return Ok(n),
            Err(source) => return Err(Error::Json { path: path.to_owned(), line_number: number, source }),
        }
    }
    Ok(0)
}

fn fault(path: &Path, line_number: usize, field: &'static str, value: String, reason: &'static str) -> Error {
    Error::Row { path: path.to_owned(), line_number, field, value, reason }
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
