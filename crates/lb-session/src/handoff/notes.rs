//! Notes that the orchestrator keeps for its workers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::prompt::Prompt;
use crate::session::WorkerSession;
use crate::{Error, Result, Segment};

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

/// All notes, in the order in which they came or their keys were first used.
#[derive(Debug, Default)]
pub(crate) struct Notes(pub(crate) Vec<Note>);

impl WorkerSession {
    /// Keeps a note for [`Handoff::Notes`](crate::Handoff::Notes). It replaces an earlier one of the same key and takes its
    /// place; without a key, and behind a new one, it comes last. The trajectory and its cache know nothing of it.
    ///
    /// # Errors
    /// [`Error::Empty`] for a text, or a key, that says nothing.
    pub fn note(&mut self, key: Option<&str>, text: impl Into<String>) -> Result<()> {
        let (key, text) = (key.map(str::trim), text.into());
        if text.trim().is_empty() {
            return Err(Error::Empty { arg: "note text" });
        }
        if key == Some("") {
            return Err(Error::Empty { arg: "note key" });
        }
        let same = |note: &&mut Note| key.is_some() && note.key.as_deref() == key;
        match self.notes.0.iter_mut().find(same) {
            Some(note) => note.text = text,
            None => self.notes.0.push(Note { key: key.map(str::to_owned), text }),
        }
        Ok(())
    }

    /// Template head and notes. Each has the tag of what was confirmed.
    pub(super) fn notes_text(&self) -> Result<Vec<u32>> {
        let mut tokens = self.prompt.head.clone();
        for note in &self.notes.0 {
            tokens.extend(self.line(&Segment::finding(note.to_string()))?);
        }
        Ok(tokens)
    }

    /// A line of the trajectory, whole.
    pub(super) fn line(&self, segment: &Segment) -> Result<Vec<u32>> {
        let most = self.worker.config().position_limit();
        let mut goes_on = || self.watch.goes_on();
        Ok(Prompt::segment(&self.worker, segment, None, most, &mut goes_on)?.0)
    }
}
