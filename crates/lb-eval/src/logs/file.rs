//! A file as logs: which values it holds, and whether each of them is a log or all of them are one.

use std::io::{BufRead, Cursor, Read};
use std::path::Path;

use lb_io::files::TEXT;
use lb_session::RecordedLog;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::items::Items;
use crate::datasets::FileFault;
use crate::datasets::format::{BUFFER, open, packed};
use crate::datasets::json::{Layout, Splitter, Stop};
use crate::datasets::reader::parse_value;
use crate::{Error, Result};

/// Keys behind which the id of a log stands, as they lie in a file.
const IDS: [&str; 4] = ["\"id\"", "\"_id\"", "\"question_ID\"", "\"instance_id\""];

/// Reads a file into `items`; `name` stands for the ids that its logs do not have.
pub(super) fn read(path: &Path, name: &str, items: &mut Items<'_>) -> Result<()> {
    let limit = items.options.max_item_bytes;
    let layout = layout(path, limit)?;
    let (mut line_of_log, mut messages) = (1, Vec::new());
    let mut one = None;
    for (number, raw) in Splitter::new(input(path)?, layout, limit).enumerate() {
        if items.full() {
            return Ok(());
        }
        let raw = raw.map_err(|stop| match stop {
            Stop::Io(source) => Error::Io { path: path.to_path_buf(), source },
            Stop::File(source) => Error::Dataset { path: path.to_path_buf(), source },
        })?;
        match parse_value(raw, &IDS) {
            (line, _, Ok(value)) => {
                let first = one.is_none();
                // The first value that can be read says what the others are.
                if *one.get_or_insert_with(|| RecordedLog::is_message(&value)) {
                    line_of_log = if first { line } else { line_of_log };
                    messages.push(value);
                } else {
                    let own = if number == 0 && layout == Layout::Values {
                        name.to_owned()
                    } else {
                        format!("{name}-{}", number + 1)
                    };
                    items.add(path, line, &own, &value)?;
                }
            }
            (line, _, Err((id, fault))) => items.fault(path, id, line, fault)?,
        }
    }
    if messages.is_empty() { Ok(()) } else { items.add(path, line_of_log, name, &Value::Array(messages)) }
}

/// The bytes of a file; those of UTF-16 with its mark as UTF-8.
fn input(path: &Path) -> Result<Box<dyn BufRead>> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    let mut input = open(path)?;
    let start = input.fill_buf().map_err(failed)?;
    let of: fn([u8; 2]) -> u16 = match start {
        [0xFF, 0xFE, ..] => u16::from_le_bytes,
        [0xFE, 0xFF, ..] => u16::from_be_bytes,
        _ => return Ok(Box::new(input)),
    };
    let mut bytes = Vec::new();
    let most = TEXT;
    (&mut input).take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        let reason = format!("more than {most} bytes of UTF-16; as UTF-8 it is read piece by piece");
        return Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason)));
    }
    let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect();
    match String::from_utf16(&units) {
        Ok(text) => Ok(Box::new(Cursor::new(text.into_bytes()))),
        Err(_) => Err(Error::Dataset { path: path.to_path_buf(), source: FileFault::NotUtf16 }),
    }
}

/// How values lie in a file. A line that is a value by itself, or a line that begins as the first does, says that each
/// line is one.
fn layout(path: &Path, limit: usize) -> Result<Layout> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    let fault = |source| Error::Dataset { path: path.to_path_buf(), source };
    let mut input = input(path)?;
    let start = input.fill_buf().map_err(failed)?;
    if let Some(kind) = packed(start) {
        return Err(fault(FileFault::Packed { kind }));
    }
    let mut first = next_line(&mut input, limit).map_err(failed)?;
    if let Some(text) = first.strip_prefix(&[0xEF, 0xBB, 0xBF]) {
        first = text.to_vec();
    }
    while first.trim_ascii().is_empty() {
        first = next_line(&mut input, limit).map_err(failed)?;
        if first.is_empty() {
            return Err(fault(FileFault::Empty));
        }
    }
    let line = first.trim_ascii();
    let complete = || serde_json::from_slice::<IgnoredAny>(line).is_ok();
    let mut next = Vec::new();
    while next.trim_ascii().is_empty() {
        next = next_line(&mut input, limit).map_err(failed)?;
        if next.is_empty() {
            break;
        }
    }
    match (line.first(), next.first()) {
        (Some(b'{'), Some(b'{')) => Ok(Layout::Lines),
        (Some(b'{'), Some(_)) | (Some(b'['), Some(b'[')) if complete() => Ok(Layout::Lines),
        (Some(b'{'), _) => Ok(Layout::Values),
        (Some(b'['), _) => Ok(Layout::Array),
        _ => {
            let start = String::from_utf8_lossy(&line[..line.len().min(24)]).into_owned();
            Err(fault(FileFault::NotJson { start }))
        }
    }
}

/// A line with its end, cut at the limit: what is longer is no value that would be read.
fn next_line(input: &mut dyn BufRead, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(BUFFER.min(1 << 12));
    input.take(limit.saturating_add(1) as u64).read_until(b'\n', &mut line)?;
    Ok(line)
}
