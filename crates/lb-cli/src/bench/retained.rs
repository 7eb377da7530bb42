//! What conditions retain, measured with a bar: the part that `bench logs` and `bench coordination` have in common.

use std::path::{Path, PathBuf};

use lb_eval::logs::LogItem;
use lb_eval::pipeline::Finished;
use lb_eval::retained::{RetainedPlan, RetainedRow, run_beside};
use lb_model::Worker;
use lb_session::CancelToken;

use crate::progress::at;
use crate::worker::WorkerArgs;
use crate::{Result, bar, complain, interrupt};

/// Measures `items` until the user calls it off; what fails is told by the command's name and what it calls an item.
pub(super) fn measure(
    (command, item): (&str, &str),
    (worker, orchestrator): (&Worker, Option<&Worker>),
    plan: &RetainedPlan,
    items: &[LogItem],
    out: Option<&Path>,
) -> Result<Finished<RetainedRow>> {
    let cancel = CancelToken::new();
    interrupt::heed(&cancel)?;
    let progress = bar(items.len() as u64, &format!("{item}s"));
    let finished = run_beside(worker, orchestrator, plan, items, out, &cancel, &|row| {
        progress.inc(1);
        at(&progress, &row.item);
        if let Some(failure) = &row.failure {
            progress.suspend(|| complain!("{command}: {item} {}: {failure}", row.item));
        }
    })?;
    progress.finish_and_clear();
    Ok(finished)
}

/// Another model beside the worker, where one is named: with the same dtype, on the same device.
pub(super) fn beside(worker: &WorkerArgs, name: Option<&PathBuf>) -> Result<Option<Worker>> {
    let other = |name: &PathBuf| WorkerArgs { worker: Some(name.clone()), ..worker.clone() }.open();
    Ok(name.map(other).transpose()?)
}
