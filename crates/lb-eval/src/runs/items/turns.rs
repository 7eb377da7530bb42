//! Turns that an earlier benchmark recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lb_io::files::{SETTINGS, read_at_most};
use lb_orchestrate::RunRecord;

use super::BenchPlan;
use crate::answers::AnswerRow;
use crate::pipeline::{PLAN, read_rows};
use crate::{Error, Result};

/// The orchestrator's turns of a benchmark that was run before, by item and repeat: the same ones for other conditions or
/// another worker.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTurns {
    dir: PathBuf,
    /// A log relative to the folder, or why there is none.
    logs: BTreeMap<(String, usize), std::result::Result<String, String>>,
}

/// What the conditions of an item replay.
pub(super) enum Turns {
    /// No condition has a loop.
    None,
    /// A run, whether or not it came to its end.
    Of(Box<RunRecord>),
    /// A run that stopped before it had a log, or none.
    Failed(String),
}

impl RecordedTurns {
    /// The turns in the folder of a benchmark, of the condition under which its orchestrator ran.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Json`] for its plan; those of [`read_rows`]; [`Error::Config`] where no condition has a loop.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let (dir, path) = (dir.as_ref(), dir.as_ref().join(PLAN));
        let text =
            read_at_most(&path, SETTINGS).map_err(|source| Error::Io { path: path.clone(), source })?;
        let json = |source| Error::Json { path: path.clone(), line_number: 1, source };
        let plan: serde_json::Value = serde_json::from_slice(&text).map_err(json)?;
        let (conditions, tau) = (plan["conditions"].clone(), plan["tau"].clone());
        let plan = BenchPlan {
            conditions: serde_json::from_value(conditions).map_err(json)?,
            tau: serde_json::from_value(tau).map_err(json)?,
            ..BenchPlan::default()
        };
        let conditions = plan.expanded()?;
        let live = BenchPlan::live(&conditions);
        let live =
            live.ok_or_else(|| Error::config("turns", dir.display(), "no condition there has a loop"))?;
        let rows = read_rows::<AnswerRow>(dir)?.rows.into_iter().filter(|row| row.condition == live.name);
        let log = |row: AnswerRow| {
            let reason = row.failure.unwrap_or_else(|| "no log".to_owned());
            ((row.item, row.repeat), row.log.ok_or(reason))
        };
        Ok(Self { dir: dir.to_owned(), logs: rows.map(log).collect() })
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.logs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    pub(super) fn of(&self, item: &str, repeat: usize) -> Result<Turns> {
        Ok(match self.logs.get(&(item.to_owned(), repeat)) {
            Some(Ok(log)) => Turns::Of(Box::new(RunRecord::open(self.dir.join(log))?)),
            Some(Err(reason)) => Turns::Failed(reason.clone()),
            None => Turns::Failed(format!("no turns of it in {}", self.dir.display())),
        })
    }
}
