//! What was run, as the folder has it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// What was run, in the folder of the rows.
pub const PLAN: &str = "plan.json";

/// What was run: `plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The plan.
    #[serde(flatten)]
    pub plan: Map<String, Value>,
    /// The worker's name.
    pub worker: String,
    /// The orchestrator.
    pub orchestrator: String,
    /// How many items.
    pub items: usize,
    /// Of their ids and documents, in any order.
    pub items_hash: u64,
}

impl PlanRecord {
    /// The record of a plan over items with these numbers; an item may stand for several.
    pub(crate) fn new(
        plan: &impl Serialize,
        worker: &str,
        orchestrator: &str,
        items: usize,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<Self> {
        let json = |source| Error::Json { path: PLAN.into(), line_number: 1, source };
        let plan = match serde_json::to_value(plan).map_err(json)? {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let (worker, orchestrator) = (worker.to_owned(), orchestrator.to_owned());
        Ok(Self { plan, worker, orchestrator, items, items_hash: numbers.fold(0, u64::wrapping_add) })
    }

    /// Whether rows of `self` go on those of `earlier`. How many items run at once changes nothing.
    pub(super) fn same_as(&self, earlier: &Value, path: &Path) -> Result<()> {
        let json = |source| Error::Json { path: path.to_owned(), line_number: 1, source };
        // Through text, as the file's: reading may round the last digit of a number.
        let now = serde_json::to_vec(self).map_err(json)?;
        let now: Value = serde_json::from_slice(&now).map_err(json)?;
        same(earlier, &now, path)
    }
}

/// Refuses a plan `now` that is another than `was`; how many items run at once changes nothing. `path` is where it is told.
pub(super) fn same(was: &Value, now: &Value, path: &Path) -> Result<()> {
    let none = Map::new();
    let (was, now) = (was.as_object().unwrap_or(&none), now.as_object().unwrap_or(&none));
    let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    match now.keys().chain(was.keys()).find(|field| *field != "jobs" && was.get(*field) != now.get(*field)) {
        None => Ok(()),
        Some(field) => Err(Error::PlanChanged {
            path: path.to_owned(),
            field: field.clone(),
            was: text(was.get(field)),
            now: text(now.get(field)),
        }),
    }
}

/// Refuses a count of 0, by its name.
pub(crate) fn at_least_one(counts: &[(&'static str, usize)]) -> Result<()> {
    match counts.iter().find(|(_, count)| *count == 0) {
        Some((field, _)) => Err(Error::config(field, 0, "want at least 1")),
        None => Ok(()),
    }
}

/// The ranges that every plan has.
pub(crate) fn check(jobs: usize, validation_share: f64) -> Result<()> {
    at_least_one(&[("jobs", jobs)])?;
    if jobs > 1024 {
        return Err(Error::config("jobs", jobs, "want at most 1024"));
    }
    if !(0.0..1.0).contains(&validation_share) {
        return Err(Error::config("validation_share", validation_share, "want 0 to below 1"));
    }
    Ok(())
}
