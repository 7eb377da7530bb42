//! Notes that the orchestrator keeps for its workers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A note for the workers; it reads `key: text`, or `text` alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is about.
    pub key: Option<String>,
    /// What it says.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Keeps a note among others. It replaces an earlier one of the same key and takes its place; without a key, and behind a
/// new one, it comes last.
///
/// # Errors
/// [`Error::Empty`] for a text, or a key, that says nothing.
pub(crate) fn keep(notes: &mut Vec<Note>, key: Option<&str>, text: String) -> Result<()> {
    let key = key.map(str::trim);
    if text.trim().is_empty() {
        return Err(Error::Empty { arg: "note text" });
    }
    if key == Some("") {
        return Err(Error::Empty { arg: "note key" });
    }
    let same = |note: &&mut Note| key.is_some() && note.key.as_deref() == key;
    match notes.iter_mut().find(same) {
        Some(note) => note.text = text,
        None => notes.push(Note { key: key.map(str::to_owned), text }),
    }
    Ok(())
}
