//! Items measured document by document, in a folder that a later run goes on with.

use std::collections::HashMap;
use std::path::Path;

use lb_model::Worker;
use lb_session::{CancelToken, WorkerSession};
use serde_json::Value;

use super::measure::Measure;
use super::plan::RetainedPlan;
use super::row::RetainedRow;
use crate::Result;
use crate::logs::LogItem;
use crate::pipeline::{
    self, Context, Existing, Finished, PlanRecord, Protocol, Row, Settings, fingerprint, mixed,
};
use crate::stats::grouped;

/// Measures every item of `items` under every condition of `plan`; the rows are in the order of the items. With a folder
/// `dir`, each row is on disk before the next item begins, and items that have one there are passed over. Trajectories of a
/// document that begin alike are read once: items are taken document by document, the shortest first. `on_row` hears every
/// row, those of the folder first; `cancel` ends it between two items.
///
/// # Errors
/// Those of [`RetainedPlan::validate`] and of [`pipeline::run`]. An item that fails is a row with its failure, which a later
/// run tries again.
pub fn run(
    worker: &Worker,
    plan: &RetainedPlan,
    items: &[LogItem],
    dir: Option<&Path>,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&RetainedRow) + Sync),
) -> Result<Finished<RetainedRow>> {
    run_beside(worker, None, plan, items, dir, cancel, on_row)
}

/// [`run`], with an orchestrator's model for conditions that are `by=orchestrator`: it reads each trajectory as well, and writes what the
/// worker gets of it.
///
/// # Errors
/// Those of [`run`]; [`Error::Config`](crate::Error::Config) where such a condition finds no orchestrator.
pub fn run_beside(
    worker: &Worker,
    orchestrator: Option<&Worker>,
    plan: &RetainedPlan,
    items: &[LogItem],
    dir: Option<&Path>,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&RetainedRow) + Sync),
) -> Result<Finished<RetainedRow>> {
    plan.validate()?;
    let conditions = &plan.expanded()?;
    let asks = conditions.iter().find(|condition| condition.wants_orchestrator());
    if let (None, Some(condition)) = (orchestrator, asks) {
        return Err(condition.refused("wants an orchestrator, a model beside the worker"));
    }
    let measure = Measure { worker, orchestrator, plan, conditions };
    let settings = Settings {
        dir,
        existing: Existing::Resume,
        shard: plan.shard,
        jobs: 1,
        cancel,
        on_row,
        hear_earlier: true,
    };
    let mut finished = pipeline::run(&measure, &documents(items), &settings)?;
    let order: HashMap<&str, usize> = items.iter().map(|item| item.id.as_str()).zip(0..).collect();
    finished.rows.sort_by_key(|row| order.get(row.item.as_str()));
    Ok(finished)
}

/// Items by document, in the order in which these first come, the shortest trajectory of each first.
fn documents(items: &[LogItem]) -> Vec<Vec<&LogItem>> {
    let shortest_first = |(_, mut items): (&str, Vec<_>)| {
        items.sort_by_key(|item: &&LogItem| item.trajectory.len());
        items
    };
    grouped(items, |item| item.document.as_str()).into_iter().map(shortest_first).collect()
}

impl<'a> Protocol for Measure<'a> {
    type Item = Vec<&'a LogItem>;
    type Row = RetainedRow;

    fn record(&self, documents: &[Vec<&'a LogItem>]) -> Result<Option<PlanRecord>> {
        let items: Vec<&LogItem> = documents.iter().flatten().copied().collect();
        let number = |item: &&LogItem| {
            let text = serde_json::to_value(item).as_ref().map_or_else(|_| item.id.clone(), Value::to_string);
            mixed(fingerprint(&text))
        };
        let numbers = items.iter().map(number);
        PlanRecord::new(
            self.plan,
            self.worker.name(),
            self.orchestrator.map_or("recorded", Worker::name),
            items.len(),
            numbers,
        )
        .map(Some)
    }

    /// What failed is tried again.
    fn resume(&self, mut rows: Vec<RetainedRow>) -> Vec<RetainedRow> {
        rows.retain(|row| row.failure.is_none());
        rows
    }

    fn rows(&self, document: &Vec<&'a LogItem>, context: &Context<'_, RetainedRow>) -> Result<()> {
        // Holds the trajectory of the last item. One that goes on where it ends is not read from its beginning.
        let mut session: Option<WorkerSession> = None;
        for item in document.iter().filter(|item| context.done(&item.id).is_empty()) {
            if context.cancelled() {
                break;
            }
            context.push(self.row(item, &mut session))?;
        }
        Ok(())
    }
}

impl Row for RetainedRow {
    fn item(&self) -> &str {
        &self.item
    }
}
