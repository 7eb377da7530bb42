//! The folder of a benchmark: plan, rows, faults.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lb_io::files::{Lock, SETTINGS, TEXT, read_at_most};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::read::ROWS;
use crate::datasets::ItemFault;
use crate::report::write_file;
use crate::{Error, Result};

/// What was run.
pub const PLAN: &str = "plan.json";
/// Malformed items, one a line.
pub const FAULTS: &str = "faults.jsonl";
/// The runs' logs.
pub const LOGS: &str = "logs";

/// What to do with a folder that holds rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is refused.
    #[default]
    Refuse,
    /// What is there is left out.
    Resume,
}

/// What was run: `plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The plan.
    #[serde(flatten)]
    pub plan: BenchPlanFields,
    /// The worker's name.
    pub worker: String,
    /// The orchestrator.
    pub orchestrator: String,
    /// How many items.
    pub items: usize,
    /// Of their ids and documents, in any order.
    pub items_hash: u64,
}

/// A plan as fields of [`PlanRecord`].
pub type BenchPlanFields = Map<String, Value>;

impl PlanRecord {
    pub(crate) fn fields(plan: &impl Serialize) -> Result<BenchPlanFields> {
        let json = |source| Error::Json { path: PLAN.into(), line_number: 1, source };
        match serde_json::to_value(plan).map_err(json)? {
            Value::Object(fields) => Ok(fields),
            _ => Ok(Map::new()),
        }
    }

    /// Whether rows of `self` go on those of `earlier`. How many items run at once changes nothing.
    fn same_as(&self, earlier: &Value, path: &Path) -> Result<()> {
        let json = |source| Error::Json { path: path.to_owned(), line_number: 1, source };
        // Through text, as the file's: reading may round the last digit of a number.
        let now = serde_json::to_vec(self).map_err(json)?;
        let now: Value = serde_json::from_slice(&now).map_err(json)?;
        let none = Map::new();
        let (was, now) = (earlier.as_object().unwrap_or(&none), now.as_object().unwrap_or(&none));
        let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
        for field in now.keys().chain(was.keys()).filter(|field| *field != "jobs") {
            if was.get(field) != now.get(field) {
                return Err(Error::PlanChanged {
                    path: path.to_owned(),
                    field: field.clone(),
                    was: text(was.get(field)),
                    now: text(now.get(field)),
                });
            }
        }
        Ok(())
    }
}

/// The rows, in their file and here. The folder is this process's alone.
#[derive(Debug)]
pub(crate) struct Store<R> {
    path: PathBuf,
    all: Mutex<All<R>>,
    _lock: Lock,
}

#[derive(Debug)]
struct All<R> {
    /// Open at its end.
    file: File,
    /// Bytes of its whole lines.
    whole: u64,
    /// Whether a part of a line may stand behind them.
    torn: bool,
    rows: Vec<R>,
}

impl<R> All<R> {
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

/// Keeps other processes from a folder.
pub(crate) fn lock(dir: &Path) -> Result<Lock> {
    let taken = Lock::take(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    taken.map_err(|held| Error::Locked { path: dir.to_owned(), holder: held.holder })
}

impl<R: Serialize + Clone> Store<R> {
    /// Opens `dir`, which is made where it is missing, and returns the rows that count: what `read` makes of those that
    /// are there.
    pub(crate) fn open(
        dir: &Path,
        record: &PlanRecord,
        existing: Existing,
        read: impl FnOnce(&Path) -> Result<Vec<R>>,
    ) -> Result<(Self, Vec<R>)> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let lock = lock(dir)?;
        let (plan, path) = (dir.join(PLAN), dir.join(ROWS));
        let mut rows = Vec::new();
        if path.exists() || plan.exists() {
            if existing == Existing::Refuse {
                return Err(Error::config(
                    "out",
                    dir.display(),
                    "holds a benchmark already: resume it, or take another folder",
                ));
            }
            let text = read_at_most(&plan, SETTINGS).map_err(io(&plan))?;
            let json = |source| Error::Json { path: plan.clone(), line_number: 1, source };
            record.same_as(&serde_json::from_slice(&text).map_err(json)?, &plan)?;
            // A run that was stopped before its first row has a plan alone.
            if path.exists() {
                rows = read(dir)?;
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
        write_file(&plan, &serde_json::to_vec_pretty(record).map_err(json)?)?;
        write_file(&path, &text)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io(&path))?;
        let all = All { file, whole: text.len() as u64, torn: false, rows: rows.clone() };
        Ok((Self { path, all: Mutex::new(all), _lock: lock }, rows))
    }

    /// Adds a row; `on_row` hears it once it is in the file.
    pub(crate) fn push(&self, row: R, on_row: &dyn Fn(&R)) -> Result<()> {
        let json = |source| Error::Json { path: self.path.clone(), line_number: 1, source };
        let text = serde_json::to_string(&row).map_err(json)?;
        let mut line = lb_io::secrets::masked(&text).into_owned().into_bytes();
        line.push(b'\n');
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.append(&line).map_err(|source| Error::Io { path: self.path.clone(), source })?;
        on_row(&row);
        all.rows.push(row);
        Ok(())
    }

    /// All rows, those of an earlier part first.
    pub(crate) fn rows(self) -> Vec<R> {
        self.all.into_inner().unwrap_or_else(PoisonError::into_inner).rows
    }
}

/// Lists malformed items in the folder.
pub(super) fn write_faults(dir: &Path, faults: &[ItemFault]) -> Result<()> {
    let path = dir.join(FAULTS);
    let mut text = Vec::new();
    for fault in faults {
        let json = |source| Error::Json { path: path.clone(), line_number: 1, source };
        serde_json::to_writer(&mut text, fault).map_err(json)?;
        text.push(b'\n');
    }
    write_file(&path, &text)
}
