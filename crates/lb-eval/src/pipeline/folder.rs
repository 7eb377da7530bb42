//! The folder of a run: plan and rows.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lb_io::files::{Lock, SETTINGS, TEXT, read_at_most};

use super::lines::{ROWS, read_rows};
use super::plan::{PLAN, PlanRecord};
use super::protocol::Row;
use crate::files::write_file;
use crate::{Error, Result};

/// What to do with a folder that holds rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is refused.
    #[default]
    Refuse,
    /// What is there is left out.
    Resume,
}

/// Keeps other processes from a folder of rows, until it is dropped.
///
/// # Errors
/// [`Error::Locked`] naming who has it, [`Error::Io`].
pub fn hold(dir: &Path) -> Result<Lock> {
    let taken = Lock::take(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    taken.map_err(|held| Error::Locked { path: dir.to_owned(), holder: held.holder })
}

/// The rows, in their file, where there is one, and here. The folder is this process's alone.
#[derive(Debug)]
pub(super) struct Store<R> {
    path: PathBuf,
    all: Mutex<All<R>>,
    _lock: Option<Lock>,
}

#[derive(Debug)]
struct All<R> {
    file: Option<Lines>,
    rows: Vec<R>,
}

#[derive(Debug)]
struct Lines {
    /// Open at its end.
    file: File,
    /// Bytes of its whole lines.
    whole: u64,
    /// Whether a part of a line may stand behind them.
    torn: bool,
}

impl Lines {
    /// Adds a line; it is on disk then. Nothing goes behind a part of a line, as a full disk leaves it.
    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.whole)?;
            self.torn = false;
        }
        let written = self.file.write_all(line).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.whole += line.len() as u64,
            // Now, if the disk lets it; else before the next line.
            Err(_) => self.torn = self.file.set_len(self.whole).is_err(),
        }
        written
    }
}

impl<R: Row> Store<R> {
    /// Without a folder.
    pub(super) fn in_memory() -> Self {
        let all = All { file: None, rows: Vec::new() };
        Self { path: PathBuf::new(), all: Mutex::new(all), _lock: None }
    }

    /// Opens `dir`, which is made where it is missing, and returns the rows that count: what `resume` makes of those that
    /// are there.
    pub(super) fn open(
        dir: &Path,
        record: Option<&PlanRecord>,
        existing: Existing,
        resume: impl FnOnce(Vec<R>) -> Vec<R>,
    ) -> Result<(Self, Vec<R>)> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let lock = hold(dir)?;
        let (plan, path) = (dir.join(PLAN), dir.join(ROWS));
        let plan_json = |source| Error::Json { path: plan.clone(), line_number: 1, source };
        let mut rows = Vec::new();
        if path.exists() || plan.exists() {
            if existing == Existing::Refuse {
                return Err(Error::config(
                    "out",
                    dir.display(),
                    "holds a benchmark already: resume it, or take another folder",
                ));
            }
            if let Some(record) = record {
                let text = read_at_most(&plan, SETTINGS).map_err(io(&plan))?;
                record.same_as(&serde_json::from_slice(&text).map_err(plan_json)?, &plan)?;
            }
            // A run that was stopped before its first row has a plan alone.
            if path.exists() {
                rows = resume(read_rows(dir)?.rows);
            }
        }
        let json = |source| Error::Json { path: path.clone(), line_number: 1, source };
        let mut text = read_at_most(&path, TEXT).unwrap_or_default();
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        // Rows that are to be made again are left out; else what is there stays as it is.
        if text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() != rows.len() {
            text.clear();
            for row in &rows {
                serde_json::to_writer(&mut text, row).map_err(json)?;
                text.push(b'\n');
            }
        }
        // The plan first: rows without one cannot be gone on with.
        if let Some(record) = record {
            write_file(&plan, &serde_json::to_vec_pretty(record).map_err(plan_json)?)?;
        }
        write_file(&path, &text)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io(&path))?;
        let file = Some(Lines { file, whole: text.len() as u64, torn: false });
        let all = All { file, rows: rows.clone() };
        Ok((Self { path, all: Mutex::new(all), _lock: Some(lock) }, rows))
    }

    /// Adds a row; `on_row` hears it once it is in the file.
    pub(super) fn push(&self, row: R, on_row: &dyn Fn(&R)) -> Result<()> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &mut all.file {
            let json = |source| Error::Json { path: self.path.clone(), line_number: 1, source };
            let text = serde_json::to_string(&row).map_err(json)?;
            let mut line = lb_io::secrets::masked(&text).into_owned().into_bytes();
            line.push(b'\n');
            lines.append(&line).map_err(|source| Error::Io { path: self.path.clone(), source })?;
        }
        on_row(&row);
        all.rows.push(row);
        Ok(())
    }

    /// All rows, those of an earlier part first.
    pub(super) fn rows(self) -> Vec<R> {
        self.all.into_inner().unwrap_or_else(PoisonError::into_inner).rows
    }
}
