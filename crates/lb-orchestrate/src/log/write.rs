//! A log that grows by whole lines.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use lb_io::files::{Lock, write_whole};
use serde::Serialize;

use super::record::{ContextFile, Iteration, Metadata};
use crate::{Error, Result};

/// A log on disk, of this process alone. Each line reaches the disk before the next turn begins.
#[derive(Debug)]
pub(crate) struct RunLog {
    path: PathBuf,
    file: File,
    /// Bytes of its whole lines.
    whole: u64,
    /// Whether something may stand behind them: a line that could not be written to its end.
    torn: bool,
    /// Lines that could not be written. They come before the next one: a log that lacks a turn cannot be read.
    owed: Vec<u8>,
    _lock: Lock,
}

impl RunLog {
    /// A new log in `dir`, which is made where it is missing, with its first line. `contexts` are written beside it.
    pub(crate) fn create(dir: &Path, mut metadata: Metadata, contexts: &[(String, String)]) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
        let stem =
            format!("rlm_{}_{:08x}", chrono::Utc::now().format("%Y-%m-%d_%H-%M-%S"), rand::random::<u32>());
        for (name, text) in contexts {
            metadata.latent_briefing.contexts.push(write_context(dir, &stem, name, text)?);
        }
        let path = dir.join(format!("{stem}.jsonl"));
        let (lock, first) = (Self::lock(&path)?, line(&metadata, &path)?);
        persist(&path, &first)?;
        Self::append_to(path, first.len() as u64, lock)
    }

    /// Keeps other processes from a log. To be taken before it is read: what one has read, the other may have cut off.
    pub(crate) fn lock(path: &Path) -> Result<Lock> {
        let taken = Lock::take(path).map_err(|e| failed(path, &e))?;
        taken.map_err(|held| Error::Locked { path: path.to_owned(), holder: held.holder })
    }

    /// Goes on with a log; what was left of a torn last line is cut off. `whole` is the length of its whole lines.
    pub(crate) fn reopen(path: &Path, whole: u64, lock: Lock) -> Result<Self> {
        let mut log = Self::append_to(path.to_owned(), whole, lock)?;
        log.torn = true;
        log.mend()?;
        Ok(log)
    }

    fn append_to(path: PathBuf, whole: u64, lock: Lock) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| failed(&path, &e))?;
        Ok(Self { path, file, whole, torn: false, owed: Vec::new(), _lock: lock })
    }

    /// Cuts off what stands behind the whole lines.
    fn mend(&mut self) -> Result<()> {
        if self.torn {
            let cut = self.file.set_len(self.whole).and_then(|()| self.file.sync_data());
            cut.map_err(|e| failed(&self.path, &e))?;
            self.torn = false;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a turn, in one write, and waits until it is on disk.
    pub(crate) fn append(&mut self, iteration: &Iteration) -> Result<()> {
        self.owed.extend(line(iteration, &self.path)?);
        // A full disk left a part of a line: nothing goes behind it.
        self.mend()?;
        let written = self.file.write_all(&self.owed).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.whole += self.owed.len() as u64;
                self.owed.clear();
                Ok(())
            }
            Err(error) => {
                self.torn = true;
                let failed = failed(&self.path, &error);
                // Now, if the disk lets it; else before the next line.
                let _ = self.mend();
                Err(failed)
            }
        }
    }

    /// A document that came later; it is found by its name.
    pub(crate) fn add_context(&self, name: &str, text: &str) -> Result<ContextFile> {
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        write_context(self.path.parent().unwrap_or(Path::new(".")), &stem, name, text)
    }
}

fn write_context(dir: &Path, stem: &str, name: &str, text: &str) -> Result<ContextFile> {
    let file = format!("{stem}.{name}.txt");
    persist(&dir.join(&file), text.as_bytes())?;
    Ok(ContextFile { name: name.to_owned(), file, chars: text.chars().count() })
}

fn persist(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, bytes).map_err(|e| failed(path, &e))
}

fn line(entry: &impl Serialize, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(entry).map_err(|e| Error::Log {
        path: path.to_owned(),
        line: None,
        reason: e.to_string(),
    })?;
    // JSON is text. What a completion repeats of a key does not stay.
    if let Ok(text) = std::str::from_utf8(&bytes)
        && let std::borrow::Cow::Owned(masked) = lb_io::secrets::masked(text)
    {
        bytes = masked.into_bytes();
    }
    bytes.push(b'\n');
    Ok(bytes)
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Log { path: path.to_owned(), line: None, reason: error.to_string() }
}
