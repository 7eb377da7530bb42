//! Rows from their file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use lb_io::files::open_regular;
use serde::de::DeserializeOwned;

use super::protocol::Row;
use crate::{Error, Result};

/// The file of the rows, in the folder of a run.
pub const ROWS: &str = "rows.jsonl";
/// Bytes of a line; an answer of a worker is far shorter.
const LONGEST: u64 = 16 << 20;

/// The rows of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<R> {
    /// In the order of the file.
    pub rows: Vec<R>,
    /// Bytes of a last line that was cut off, as a run that was stopped leaves it. It is left out.
    pub torn: usize,
}

/// Reads `rows.jsonl` in `dir`.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read; [`Error::Json`] for a line that is no row and [`Error::Row`] for a value
/// that cannot be, both with file and line; [`Error::DuplicateRow`] for an item that has two rows where it may have one.
pub fn read_rows<R: Row>(dir: impl AsRef<Path>) -> Result<Rows<R>> {
    let path = dir.as_ref().join(ROWS);
    let mut rows = Vec::new();
    let mut seen: BTreeMap<(String, String, usize), usize> = BTreeMap::new();
    let torn = read_lines(&path, &mut |number, row: R| {
        if let Some((field, value, reason)) = row.impossible() {
            return Err(Error::Row { path: path.clone(), line_number: number, field, value, reason });
        }
        if let Some((condition, repeat)) = row.place() {
            let (item, condition) = (row.item().to_owned(), condition.to_owned());
            if let Some(first) = seen.insert((item.clone(), condition.clone(), repeat), number) {
                let path = path.clone();
                return Err(Error::DuplicateRow { path, first, second: number, item, condition, repeat });
            }
        }
        rows.push(row);
        Ok(())
    })?;
    Ok(Rows { rows, torn })
}

/// Gives every line of a file of JSON Lines to `each`, with its number from 1. A last line that was cut off, as a run that
/// was stopped leaves it, is left out; how many bytes it has is returned.
fn read_lines<R: DeserializeOwned>(
    path: &Path,
    each: &mut dyn FnMut(usize, R) -> Result<()>,
) -> Result<usize> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = BufReader::new(open_regular(path).map_err(io)?);
    let mut line = Vec::new();
    for line_number in 1.. {
        line.clear();
        let n = (&mut file).take(LONGEST).read_until(b'\n', &mut line).map_err(io)?;
        if n == 0 {
            break;
        }
        let whole = line.ends_with(b"\n");
        if !whole && n as u64 == LONGEST {
            let (path, value) = (path.to_owned(), format!("{n} bytes or more"));
            return Err(Error::Row {
                path,
                line_number,
                field: "line",
                value,
                reason: "want at most 16 MiB",
            });
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(row) => each(line_number, row)?,
            Err(_) if !whole => return Ok(n),
            Err(source) => return Err(Error::Json { path: path.to_owned(), line_number, source }),
        }
    }
    Ok(0)
}
