//! What a file is, from its first bytes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use lb_io::files::open_regular;

use super::json::Layout;
use crate::fault::FileFault;
use crate::{Error, Result};

/// Bytes read at a time.
pub(crate) const BUFFER: usize = 1 << 18;

/// How items lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json(Layout),
    Parquet,
}

pub(crate) fn open(path: &Path) -> Result<BufReader<File>> {
    let file = open_regular(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    Ok(BufReader::with_capacity(BUFFER, file))
}

/// What kind of compressed file or archive begins so.
pub(crate) fn packed(start: &[u8]) -> Option<&'static str> {
    let known = [
        (&[0x1F, 0x8B][..], "gzip"),
        (b"PK\x03\x04", "zip"),
        (&[0x28, 0xB5, 0x2F, 0xFD], "zstd"),
        (b"BZh", "bzip2"),
        (&[0xFD, b'7', b'z', b'X', b'Z'], "xz"),
    ];
    known.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| kind)
}

/// The format by content. An object at the top is one item per line, or (`keyed`) one item per key.
pub(super) fn detect(path: &Path, keyed: bool) -> Result<Format> {
    let fault = |source| Error::Dataset { path: path.to_path_buf(), source };
    let mut input = open(path)?;
    let start = input.fill_buf().map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    if let Some(kind) = packed(start) {
        return Err(fault(FileFault::Packed { kind }));
    }
    if start.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    let text = start.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(start).trim_ascii_start();
    match text.first() {
        Some(b'[') => Ok(Format::Json(Layout::Array)),
        Some(b'{') if keyed => Ok(Format::Json(Layout::Object)),
        Some(b'{') => {
            // A line that only opens an object: one object over many lines, which is not one item a line.
            let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
            if line.trim_ascii() == b"{" {
                let expected = "an array of objects, or one object a line";
                return Err(fault(FileFault::Structure { line: 1, expected }));
            }
            Ok(Format::Json(Layout::Lines))
        }
        None if start.len() < BUFFER => Err(fault(FileFault::Empty)),
        _ => {
            let start = String::from_utf8_lossy(&text[..text.len().min(24)]).into_owned();
            Err(fault(FileFault::Unknown { start }))
        }
    }
}
