//! A log read back.

use std::path::{Path, PathBuf};

use lb_io::files::{TEXT, read_at_most, read_text_at_most};
use serde::de::DeserializeOwned;

use super::record::{Iteration, Metadata};
use crate::{Error, Result};

/// A log as it was found on disk.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Where it is.
    pub path: PathBuf,
    /// Its first line.
    pub metadata: Metadata,
    /// Its turns.
    pub iterations: Vec<Iteration>,
    /// Bytes of a last line that is not whole: the run was cut off while it was written.
    pub torn: usize,
    /// Bytes of the whole lines.
    pub(crate) whole: u64,
}

/// Bytes of a document: what a session takes as a variable.
const CONTEXT_BYTES: u64 = 32 << 20;

impl RunRecord {
    /// Reads a log of [`Rlm`](crate::Rlm). A last line that is not whole is left out and counted in
    /// [`torn`](Self::torn).
    ///
    /// # Errors
    /// [`Error::Log`] naming file and line, where it cannot be read, a line is not what it should be, or a turn is
    /// missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_at_most(path, TEXT).map_err(|e| error(path, None, e.to_string()))?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let torn = bytes.len() - whole;
        let mut lines =
            bytes[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
        let (_, first) = lines.next().ok_or_else(|| error(path, Some(1), "it holds no whole line".into()))?;
        let metadata: Metadata = parse(first, path, 1)?;
        let mut iterations: Vec<Iteration> = Vec::new();
        for (number, line) in lines {
            let iteration: Iteration = parse(line, path, number + 1)?;
            let expected = iterations.len() + 1;
            if iteration.iteration != expected {
                let reason = format!("turn {} where {expected} should be", iteration.iteration);
                return Err(error(path, Some(number + 1), reason));
            }
            iterations.push(iteration);
        }
        Ok(Self { path: path.to_owned(), metadata, iterations, torn, whole: whole as u64 })
    }

    /// The documents, by the names of their variables.
    ///
    /// # Errors
    /// [`Error::Log`] naming the file, where one is missing, no text, or not as long as the log says.
    pub fn contexts(&self) -> Result<Vec<(String, String)>> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut left = TEXT;
        let read = |context: &super::ContextFile| {
            // The name of a file in the log's own folder, whatever a log from elsewhere says.
            let name = Path::new(&context.file).file_name().unwrap_or_default();
            let path = dir.join(name);
            // Each is a variable of the sandbox, and there may be many.
            let most = left.min(CONTEXT_BYTES);
            let text = read_text_at_most(&path, most).map_err(|e| error(&path, None, e.to_string()))?;
            left -= text.len() as u64;
            let chars = text.chars().count();
            if chars != context.chars {
                let reason = format!("{chars} characters where the log says {}", context.chars);
                return Err(error(&path, None, reason));
            }
            Ok((context.name.clone(), text))
        };
        let later = self.iterations.iter().flat_map(|iteration| &iteration.contexts);
        self.metadata.latent_briefing.contexts.iter().chain(later).map(read).collect()
    }

    /// The turns that were carried through.
    pub fn turns(&self) -> impl Iterator<Item = &Iteration> {
        self.iterations.iter().filter(|iteration| iteration.stopped.is_none())
    }

    /// The answer to the last question, `None` where the run was cut off before it.
    pub fn answer(&self) -> Option<&str> {
        self.turns().last()?.final_answer.as_deref()
    }
}

fn parse<T: DeserializeOwned>(line: &[u8], path: &Path, number: usize) -> Result<T> {
    serde_json::from_slice(line).map_err(|e| error(path, Some(number), e.to_string()))
}

fn error(path: &Path, line: Option<usize>, reason: String) -> Error {
    Error::Log { path: path.to_owned(), line, reason }
}
