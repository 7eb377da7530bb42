//! Rows in their file, one a line.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use lb_io::files::open_regular;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Bytes of a line; an answer of a worker is far shorter.
const LONGEST: u64 = 16 << 20;

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

pub(crate) fn fault(
    path: &Path,
    line_number: usize,
    field: &'static str,
    value: String,
    reason: &'static str,
) -> Error {
    Error::Row { path: path.to_owned(), line_number, field, value, reason }
}
