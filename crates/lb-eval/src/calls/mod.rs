//! Questions about generated logs, without an orchestrator: each log is read once as the trajectory, and each question about
//! it is one call of the worker.

mod ask;
mod logs;
mod plan;

use std::path::Path;

use lb_model::Worker;
use lb_session::CancelToken;

pub use plan::{EpisodePlan, Logs};

use crate::Result;
use crate::answers::AnswerRow;
use crate::condition::Condition;
use crate::episodes::Episode;
use crate::pipeline::{self, Existing, Finished, Settings, Shard};

/// Answers every question of every log of `plan` under each of its conditions, in the folder `dir`, which
/// [`report`](fn@crate::report::report) reads. `on_row` hears every new row; `cancel` ends it between two logs.
///
/// # Errors
/// Those of [`EpisodePlan::validate`]; those of [`pipeline::run`]; [`Error::Session`](crate::Error::Session) where a log does
/// not fit the worker. Rows until then stay.
pub fn run(
    worker: &Worker,
    plan: &EpisodePlan,
    dir: &Path,
    existing: Existing,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&AnswerRow) + Sync),
) -> Result<Finished<AnswerRow>> {
    plan.validate()?;
    let calls = ask::Calls { worker, plan, conditions: &plan.expanded()? };
    let logs = logs::logs(worker, plan)?;
    let dir = Some(dir);
    let settings =
        Settings { dir, existing, shard: plan.shard, jobs: plan.jobs, cancel, on_row, hear_earlier: false };
    pipeline::run(&calls, &logs, &settings)
}

/// Every question of one episode under each of `conditions`, in memory.
///
/// # Errors
/// [`Error::Session`](crate::Error::Session) where the log does not fit the worker or a condition is out of range,
/// [`Error::Config`](crate::Error::Config) for one that means nothing here.
pub fn ask(worker: &Worker, conditions: &[Condition], episode: &Episode) -> Result<Vec<AnswerRow>> {
    plan::check(conditions)?;
    let calls = ask::Calls { worker, plan: &EpisodePlan::default(), conditions };
    let settings = Settings {
        dir: None,
        existing: Existing::Refuse,
        shard: Shard::default(),
        jobs: 1,
        cancel: &CancelToken::new(),
        on_row: &|_| {},
        hear_earlier: false,
    };
    Ok(pipeline::run(&calls, &[logs::Log::of(episode)], &settings)?.rows)
}
