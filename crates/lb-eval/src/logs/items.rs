//! Logs as they become items, with what is wrong or left out.

use std::collections::HashMap;
use std::path::Path;

use lb_session::{LogFault, LogNote, RecordedLog};
use serde_json::Value;

use super::{Continuation, LoadOptions, LoadedLogs, LogItem};
use crate::datasets::{Fault, ItemFault, OnFault};
use crate::{Error, Result};

/// Items so far.
pub(super) struct Items<'a> {
    pub(super) options: &'a LoadOptions,
    pub(super) loaded: LoadedLogs,
    /// Where each id stands first: which file, which line.
    seen: HashMap<String, (usize, usize)>,
    files: usize,
    /// The file in hand, as it stands in a folder.
    file: Option<String>,
}

impl<'a> Items<'a> {
    pub(super) fn new(options: &'a LoadOptions) -> Self {
        let loaded = LoadedLogs::default();
        Self { options, loaded, seen: HashMap::new(), files: 0, file: None }
    }

    /// True when no more items are wanted.
    pub(super) fn full(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.loaded.items.len() >= limit)
    }

    /// The next file of a folder begins.
    pub(super) fn enter_file(&mut self, inside: &Path) {
        self.files += 1;
        self.file = Some(inside.to_string_lossy().replace('\\', "/"));
    }

    pub(super) fn other_files(&mut self, files: usize) {
        if files > 0 {
            self.note(LogNote::LeftOut { what: "file of another kind".to_owned(), parts: files });
        }
    }

    /// Takes in a log; `own` is its id where it has none.
    pub(super) fn add(&mut self, path: &Path, line: usize, own: &str, value: &Value) -> Result<()> {
        let log = match RecordedLog::from_json(value) {
            Ok(log) => log,
            Err(fault) => {
                let id = value.get("id").or_else(|| value.get("_id")).and_then(Value::as_str);
                return self.fault(path, id.map(str::to_owned), line, told(fault));
            }
        };
        let log = match self.options.continuation {
            Continuation::AsGiven => log,
            Continuation::LastMessage => log.with_last_as_target(),
        };
        let id = self.id_of(&log, own);
        if log.trajectory.is_empty() {
            return self.fault(path, Some(id), line, Fault::Empty { field: "trajectory".to_owned() });
        }
        if let Some(&(_, first_line)) = self.seen.get(&id) {
            return self.fault(path, Some(id), line, Fault::DuplicateId { first_line });
        }
        self.seen.insert(id.clone(), (self.files, line));
        for note in log.notes {
            self.note(note);
        }
        *self.loaded.formats.entry(log.format).or_default() += 1;
        self.loaded.items.push(LogItem {
            document: id.split('#').next().unwrap_or_default().to_owned(),
            id,
            trajectory: log.trajectory.into_iter().collect(),
            task: log.task,
            target: log.target,
            answers: log.answers,
            decisions: Vec::new(),
        });
        Ok(())
    }

    /// A log's own id; else that of what it is about, with a number where other logs are about the same, which makes them one
    /// document; else `own`. Where another file of a folder has a log's own id, the file's name tells them apart.
    fn id_of(&self, log: &RecordedLog, own: &str) -> String {
        if let (None, Some(about)) = (&log.id, &log.about) {
            let numbered = (2_usize..).map(|number| format!("{about}#{number}"));
            let mut ids = std::iter::once(about.clone()).chain(numbered);
            return ids.find(|id| !self.seen.contains_key(id)).unwrap_or_default();
        }
        let id = log.id.clone().unwrap_or_else(|| own.to_owned());
        match (self.seen.get(&id), &self.file) {
            (Some((file, _)), Some(name)) if *file != self.files => format!("{id}@{name}"),
            _ => id,
        }
    }

    /// Lists a fault; within a folder its file is named before its id.
    pub(super) fn fault(&mut self, path: &Path, id: Option<String>, line: usize, fault: Fault) -> Result<()> {
        let id = match (&self.file, id) {
            (Some(file), Some(id)) => Some(format!("{file}: {id}")),
            (Some(file), None) => Some(file.clone()),
            (None, id) => id,
        };
        let fault = ItemFault { id, line, fault };
        if self.options.on_fault == OnFault::Fail {
            return Err(Error::Item { path: path.to_path_buf(), source: Box::new(fault) });
        }
        self.loaded.faults.push(fault);
        Ok(())
    }

    fn note(&mut self, note: LogNote) {
        if !self.loaded.notes.iter_mut().any(|known| known.joins(&note)) {
            self.loaded.notes.push(note);
        }
    }
}

/// The same fault in the words of data sets.
fn told(fault: LogFault) -> Fault {
    match fault {
        LogFault::Unknown { got } => Fault::NotALog { got },
        LogFault::Type { field, expected, got } => {
            Fault::Type { field, expected: expected.to_owned(), got: got.to_owned() }
        }
        LogFault::Empty { field } => Fault::Empty { field },
        other => Fault::NotALog { got: other.to_string() },
    }
}
