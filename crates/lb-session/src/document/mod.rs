//! Text files that a user hands in: documents, messages, questions. All are read here, so that all are refused alike.

mod binary;
mod guess;

use std::path::{Path, PathBuf};

use lb_io::files::{TEXT, read_at_most};

use crate::{Error, Result};

/// Why a file is no text that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentFault {
    /// The file cannot be opened or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is a folder.
    #[error("is a folder; want a text file")]
    Folder,
    /// It holds no text, by its first bytes.
    #[error("is {kind}, not a text: {advice}")]
    Binary {
        /// What it is.
        kind: &'static str,
        /// How to get at its text.
        advice: String,
    },
    /// It is text in another encoding.
    #[error(
        "byte 0x{byte:02X} at offset {offset} (line {line}) is no UTF-8; the file looks like {encoding}: {advice}"
    )]
    Encoding {
        /// The first byte that is no UTF-8.
        byte: u8,
        /// Where it is, from 0.
        offset: usize,
        /// Its line, from 1.
        line: usize,
        /// The encoding that the bytes look most like, as `iconv` calls it.
        encoding: &'static str,
        /// How to convert it.
        advice: String,
    },
    /// It is UTF-8 or UTF-16 and ends inside a character.
    #[error("ends at offset {offset} in the middle of a character; the file is cut short")]
    CutShort {
        /// Where the character begins, from 0.
        offset: usize,
    },
    /// It begins with the mark of UTF-16, and has half a character.
    #[error("is UTF-16 by its first bytes, but at offset {offset} there is half a pair of surrogates")]
    Surrogate {
        /// Where it is, from 0.
        offset: usize,
    },
}

/// Reads a text file: UTF-8 with or without a byte order mark, or UTF-16 with one. The mark is left out.
///
/// # Errors
/// [`Error::Document`] that names the file and what to do about it: another encoding with the first byte that shows it
/// and the command that converts it, a PDF or another file that is no text.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let fault = |fault| Error::Document { path: path.to_owned(), fault: Box::new(fault) };
    if path.is_dir() {
        return Err(fault(DocumentFault::Folder));
    }
    let bytes = read_at_most(path, TEXT).map_err(|error| fault(error.into()))?;
    decode(bytes, path).map_err(fault)
}

fn decode(bytes: Vec<u8>, path: &Path) -> std::result::Result<String, DocumentFault> {
    if let Some(text) = bytes.strip_prefix(b"\xEF\xBB\xBF") {
        return utf8(text.to_vec(), 3, path);
    }
    // Before UTF-16, whose mark it begins with.
    if bytes.starts_with(b"\xFF\xFE\0\0") {
        return Err(other(&bytes, 0, "UTF-32", path));
    }
    if let Some(units) = bytes.strip_prefix(b"\xFF\xFE") {
        return utf16(units, u16::from_le_bytes);
    }
    if let Some(units) = bytes.strip_prefix(b"\xFE\xFF") {
        return utf16(units, u16::from_be_bytes);
    }
    if let Some((kind, advice)) = binary::kind(&bytes, path) {
        return Err(DocumentFault::Binary { kind, advice });
    }
    if let Some(encoding) = guess::wide(&bytes) {
        let at = bytes.iter().position(|byte| *byte == 0).unwrap_or_default();
        return Err(other(&bytes, at, encoding, path));
    }
    utf8(bytes, 0, path)
}

/// `skipped`: bytes of the file before these.
fn utf8(bytes: Vec<u8>, skipped: usize, path: &Path) -> std::result::Result<String, DocumentFault> {
    String::from_utf8(bytes).map_err(|error| {
        let (fault, bytes) = (error.utf8_error(), error.as_bytes());
        let at = fault.valid_up_to();
        // Valid but for its end: cut, not of another encoding.
        if fault.error_len().is_none() && bytes[..at].iter().any(|byte| !byte.is_ascii()) {
            return DocumentFault::CutShort { offset: at + skipped };
        }
        let mut found = other(bytes, at, guess::narrow(bytes), path);
        if let DocumentFault::Encoding { offset, .. } = &mut found {
            *offset += skipped;
        }
        found
    })
}

fn other(bytes: &[u8], offset: usize, encoding: &'static str, path: &Path) -> DocumentFault {
    let line = bytes[..offset].split(|byte| *byte == b'\n').count();
    let advice = format!("iconv -f {encoding} -t UTF-8 {} > {}", quoted(path), quoted(&converted(path)));
    let byte = bytes.get(offset).copied().unwrap_or_default();
    DocumentFault::Encoding { byte, offset, line, encoding, advice }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> std::result::Result<String, DocumentFault> {
    let mut units = bytes.chunks_exact(2);
    let text = units.by_ref().map(|pair| unit([pair[0], pair[1]]));
    let (mut out, mut offset) = (String::with_capacity(bytes.len() / 2), 2);
    for read in char::decode_utf16(text) {
        let c = read.map_err(|_| DocumentFault::Surrogate { offset })?;
        offset += 2 * c.len_utf16();
        out.push(c);
    }
    if units.remainder().is_empty() { Ok(out) } else { Err(DocumentFault::CutShort { offset }) }
}

/// `report.txt` to `report.utf8.txt`.
fn converted(path: &Path) -> PathBuf {
    let ending = path.extension().map_or("txt".into(), |ending| ending.to_string_lossy());
    path.with_extension(format!("utf8.{ending}"))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text;
    }
    let guarded = if text.starts_with('-') { format!("./{text}") } else { text };
    format!("'{}'", guarded.replace('\'', r"'\''"))
}
