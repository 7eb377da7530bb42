//! Questions about generated logs, without an orchestrator: each log is read once as the trajectory, and each question about
//! it is one call of the worker.

mod ask;
mod logs;
mod plan;
#[cfg(feature = "servers")]
mod remote;
#[cfg(feature = "servers")]
mod servers;

use std::path::Path;

use lb_model::Worker;
use lb_session::CancelToken;

pub use plan::{EpisodePlan, Logs};
#[cfg(feature = "servers")]
pub use servers::Servers;

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

/// [`run`], where `servers` have the model and answer; as many logs at a time as `plan` has jobs, all together. `worker` counts
/// tokens, and should be the servers' model. A server that goes away is asked again later, and its log is read on another.
///
/// # Errors
/// Those of [`run`]; [`Error::Server`](crate::Error::Server) where a server refuses, or none is left;
/// [`Error::Config`](crate::Error::Config) for a condition that is no handoff.
#[cfg(feature = "servers")]
pub fn run_on(
    servers: &Servers,
    worker: &Worker,
    plan: &EpisodePlan,
    dir: &Path,
    existing: Existing,
    cancel: &CancelToken,
    on_row: &(dyn Fn(&AnswerRow) + Sync),
) -> Result<Finished<AnswerRow>> {
    plan.validate()?;
    let conditions = plan.expanded()?;
    remote::check(&conditions)?;
    let calls = ask::Calls { worker, plan, conditions: &conditions };
    let logs = logs::logs(worker, plan)?;
    let dir = Some(dir);
    let settings =
        Settings { dir, existing, shard: plan.shard, jobs: plan.jobs, cancel, on_row, hear_earlier: false };
    pipeline::run(&remote::Remote { calls, servers, cancel }, &logs, &settings)
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
