//! A file that holds one log.

use std::path::Path;

use lb_io::files::{TEXT, read_at_most};
use serde_json::Value;

use super::notes::{self, LogNote};
use super::{RecordedLog, record};
use crate::{Error, Result};

/// Reads a file: one JSON document, or JSON Lines that are the lines or messages of one log.
pub(super) fn read(path: &Path) -> Result<RecordedLog> {
    let failed = |line, reason: String| Error::Log { path: path.to_owned(), line, reason };
    let bytes = read_at_most(path, TEXT).map_err(|e| failed(None, e.to_string()))?;
    let text = decode(bytes).map_err(|reason| failed(None, reason))?;
    if text.trim().is_empty() {
        return Err(failed(None, "the file is empty".to_owned()));
    }
    let (value, torn) = match serde_json::from_str(&text) {
        Ok(value) => (value, false),
        Err(whole) => lines(&text, &whole).map_err(|(line, reason)| failed(line, reason))?,
    };
    let mut log = record::read(&value).map_err(|fault| failed(None, fault.to_string()))?;
    if torn {
        notes::add(&mut log.notes, LogNote::LeftOut { what: "torn line".to_owned(), parts: 1 });
    }
    Ok(log)
}

/// Text of UTF-8, with its mark or without, or of UTF-16 with its mark.
fn decode(bytes: Vec<u8>) -> std::result::Result<String, String> {
    let units = |of: fn([u8; 2]) -> u16| -> Vec<u16> {
        bytes[2..].chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect()
    };
    let wide = match bytes.as_slice() {
        [0xFF, 0xFE, ..] => Some(units(u16::from_le_bytes)),
        [0xFE, 0xFF, ..] => Some(units(u16::from_be_bytes)),
        _ => None,
    };
    if let Some(wide) = wide {
        return String::from_utf16(&wide).map_err(|_| "invalid UTF-16".to_owned());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            Err(format!("no UTF-8: byte 0x{byte:02X} at offset {at}"))
        }
    }
}

type Failure = (Option<usize>, String);

/// The lines as one list, and whether the last was torn. `whole` is why the file is not one document.
fn lines(text: &str, whole: &serde_json::Error) -> std::result::Result<(Value, bool), Failure> {
    let mut values: Vec<Value> = Vec::new();
    let mut solid = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    while let Some((number, line)) = solid.next() {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            // A document over several lines.
            Err(_) if values.is_empty() => return Err((Some(whole.line()), whole.to_string())),
            // Whoever wrote it was cut off.
            Err(_) if solid.peek().is_none() && !text.ends_with('\n') => {
                return Ok((Value::Array(values), true));
            }
            Err(error) => return Err((Some(number + 1), error.to_string())),
        }
    }
    Ok((Value::Array(values), false))
}
