//! Every trajectory, in a folder that a later run goes on with.

use std::path::Path;

use candle_core::DType;
use lb_model::{Differentiable, Worker};
use lb_session::CancelToken;
use serde_json::Value;

use super::measure::Measure;
use super::plan::TrainedPlan;
use super::row::TrainedRow;
use crate::Result;
use crate::error::with_causes;
use crate::logs::LogItem;
use crate::pipeline::{
    self, Context, Existing, Finished, PlanRecord, Protocol, Row, Settings, fingerprint, mixed,
};
use crate::stats::grouped;

/// Trains briefings of each trajectory of `items` as `plan` says. With a folder `dir`, each row is on disk before the next trajectory
/// begins, and what has one there is passed over. `on_row` hears every row, those of the folder first; `cancel` ends it between two steps.
///
/// # Errors
/// Those of [`TrainedPlan::validate`] and of [`pipeline::run`]; [`Error::Model`](crate::Error::Model) for a worker without gradients. A
/// trajectory that fails is a row with its failure, which a later run tries again.
pub fn run(
    worker: &Worker,
    plan: &TrainedPlan,
    items: &[LogItem],
    dir: Option<&Path>,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&TrainedRow) + Sync),
) -> Result<Finished<TrainedRow>> {
    plan.validate()?;
    let path = &Differentiable::of(worker.model(), DType::F32)?;
    let configs = &plan.configs()?;
    let groups: Vec<Vec<&LogItem>> =
        grouped(items, |item| &item.trajectory).into_iter().map(|(_, items)| items).collect();
    let settings = Settings {
        dir,
        existing: Existing::Resume,
        shard: plan.shard,
        jobs: 1,
        cancel,
        on_row,
        hear_earlier: true,
    };
    pipeline::run(&Measure { worker, path, plan, configs, cancel }, &groups, &settings)
}

impl<'a> Protocol for Measure<'a> {
    type Item = Vec<&'a LogItem>;
    type Row = TrainedRow;

    fn record(&self, groups: &[Vec<&'a LogItem>]) -> Result<Option<PlanRecord>> {
        let number = |item: &&LogItem| {
            let text = serde_json::to_value(item).as_ref().map_or_else(|_| item.id.clone(), Value::to_string);
            mixed(fingerprint(&text))
        };
        let numbers = groups.iter().flatten().map(number);
        PlanRecord::new(self.plan, self.worker.name(), "none", groups.len(), numbers).map(Some)
    }

    /// What failed is tried again.
    fn resume(&self, mut rows: Vec<TrainedRow>) -> Vec<TrainedRow> {
        rows.retain(|row| row.failure.is_none());
        rows
    }

    fn rows(&self, items: &Vec<&'a LogItem>, context: &Context<'_, TrainedRow>) -> Result<()> {
        let Some(first) = items.first() else { return Ok(()) };
        if !context.done(&first.id).is_empty() || context.cancelled() {
            return Ok(());
        }
        let (item, document) = (first.id.clone(), first.document.clone());
        let blank = TrainedRow { item, document, ..TrainedRow::default() };
        match self.row(items, blank.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(row)) => context.push(row),
            Err(error) => context.push(TrainedRow { failure: Some(with_causes(&error)), ..blank }),
        }
    }
}

impl Row for TrainedRow {
    fn item(&self) -> &str {
        &self.item
    }
}
