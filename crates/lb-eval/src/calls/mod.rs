//! Logs asked without an orchestrator: each is read once as the trajectory, and each question about it is one call.

mod ask;
mod logs;
mod plan;

use std::collections::HashSet;
use std::path::Path;

use lb_model::Worker;
use lb_session::CancelToken;

pub use plan::{EpisodePlan, Logs};

use super::jobs::in_parallel;
use super::store::{PlanRecord, Store};
use super::{BenchRow, Existing, Finished, read_rows};
use crate::Result;

/// Answers every question of every log of `plan` under each of its conditions, in the folder `dir`, which
/// [`report`](super::report) reads. `on_row` hears every new row; `cancel` ends it between two logs.
///
/// # Errors
/// Those of [`EpisodePlan::validate`]; for folder and files those of [`run`](super::run);
/// [`Error::Session`](crate::Error::Session) where a log does not fit the worker. Rows until then stay.
pub fn run_episodes(
    worker: &Worker,
    plan: &EpisodePlan,
    dir: &Path,
    existing: Existing,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&BenchRow) + Sync),
) -> Result<Finished> {
    plan.validate()?;
    let ways = plan.ways()?;
    let logs = logs::logs(worker, plan)?;
    let record = PlanRecord {
        plan: PlanRecord::fields(plan)?,
        worker: worker.name().to_owned(),
        orchestrator: "none".to_owned(),
        items: logs.iter().map(|log| log.episode.questions.len()).sum(),
        items_hash: logs.iter().map(|log| log.cluster).fold(0, u64::wrapping_add),
    };
    let (store, rows) = Store::open(dir, &record, existing, |dir| Ok(read_rows(dir)?.rows))?;
    let done: HashSet<(String, String)> =
        rows.iter().map(|row| (row.item.clone(), row.condition.clone())).collect();
    let resumed = rows.len();
    let push = |row: BenchRow| store.push(row, on_row);
    let asking = ask::Asking { worker, plan, ways: &ways, done: &done, push: &push };
    in_parallel(logs.len(), plan.jobs, cancel, &|number| asking.log(&logs[number]))?;
    Ok(Finished { rows: store.rows(), resumed, cancelled: cancel.is_cancelled() })
}
