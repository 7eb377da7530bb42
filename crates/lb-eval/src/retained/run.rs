//! Items measured one after another, in a folder that a later run goes on with.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use lb_model::Worker;
use lb_session::CancelToken;
use serde_json::Value;

use super::item::Reader;
use super::plan::RetainedPlan;
use super::row::RetainedRow;
use crate::Result;
use crate::fingerprint::{fingerprint, mixed};
use crate::lines::read_lines;
use crate::logs::LogItem;
use crate::store::{Existing, PlanRecord, ROWS, Store};

/// How a measurement ended.
#[derive(Clone, Debug, Default)]
pub struct RetainedRun {
    /// A row for each item, in their order.
    pub rows: Vec<RetainedRow>,
    /// How many of them were there before.
    pub resumed: usize,
    /// Whether it was called off; it can be gone on with.
    pub cancelled: bool,
}

/// Measures every item of `items` under every condition of `plan`. With a folder `dir`, each row is on disk before the next
/// item begins, and items that have one there are passed over. Trajectories that begin alike are read once: items are taken
/// document by document, the shortest first. `on_row` hears every row, those of the folder first; `cancel` ends it between two
/// items.
///
/// # Errors
/// Those of [`RetainedPlan::validate`]; [`Error::PlanChanged`](crate::Error::PlanChanged) where the folder's plan, worker or
/// items are others; [`Error::Io`](crate::Error::Io) and [`Error::Json`](crate::Error::Json) for its files. An item that
/// fails is a row with its failure.
pub fn run(
    worker: &Worker,
    plan: &RetainedPlan,
    items: &[LogItem],
    dir: Option<&Path>,
    cancel: &CancelToken,
    on_row: &dyn Fn(&RetainedRow),
) -> Result<RetainedRun> {
    plan.validate()?;
    let ways = plan.ways()?;
    let (store, earlier) = match dir {
        Some(dir) => {
            let (store, rows) = Store::open(dir, &record(worker, plan, items)?, Existing::Resume, read_rows)?;
            (Some(store), rows)
        }
        None => (None, Vec::new()),
    };
    earlier.iter().for_each(on_row);
    let done: HashSet<&str> = earlier.iter().map(|row| row.item.as_str()).collect();
    let mut reader = Reader::new(worker, plan, &ways);
    let mut rows: BTreeMap<&str, RetainedRow> = BTreeMap::new();
    for item in order(items).into_iter().filter(|item| !done.contains(item.id.as_str())) {
        if cancel.is_cancelled() {
            break;
        }
        let row = reader.measure(item);
        match &store {
            Some(store) => store.push(row.clone(), on_row)?,
            None => on_row(&row),
        }
        rows.insert(&item.id, row);
    }
    let resumed = earlier.len();
    rows.extend(items.iter().filter_map(|item| {
        let row = earlier.iter().find(|row| row.item == item.id)?;
        Some((item.id.as_str(), row.clone()))
    }));
    let rows = items.iter().filter_map(|item| rows.remove(item.id.as_str())).collect();
    Ok(RetainedRun { rows, resumed, cancelled: cancel.is_cancelled() })
}

/// What must be the same for rows of an earlier part to count.
fn record(worker: &Worker, plan: &RetainedPlan, items: &[LogItem]) -> Result<PlanRecord> {
    let hash = |item: &LogItem| {
        let text = serde_json::to_value(item).as_ref().map_or_else(|_| item.id.clone(), Value::to_string);
        mixed(fingerprint(&text))
    };
    Ok(PlanRecord {
        plan: PlanRecord::fields(plan)?,
        worker: worker.name().to_owned(),
        orchestrator: "recorded".to_owned(),
        items: items.len(),
        items_hash: items.iter().map(hash).fold(0, u64::wrapping_add),
    })
}

fn read_rows(dir: &Path) -> Result<Vec<RetainedRow>> {
    let mut rows = Vec::new();
    read_lines(&dir.join(ROWS), &mut |_, row: RetainedRow| {
        // What failed is tried again.
        rows.extend(Some(row).filter(|row| row.failure.is_none()));
        Ok(())
    })?;
    Ok(rows)
}

/// Document by document as they first come, the shortest trajectory of each first.
fn order(items: &[LogItem]) -> Vec<&LogItem> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        first.entry(&item.document).or_insert(at);
    }
    let mut ordered: Vec<&LogItem> = items.iter().collect();
    ordered.sort_by_key(|item| (first[item.document.as_str()], item.trajectory.len()));
    ordered
}
