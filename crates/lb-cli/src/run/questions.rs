//! A whole file of questions, one run of the loop for each.

use std::path::Path;
use std::sync::Arc;

use lb_eval::runs::questions::{self, Questions};
use lb_model::Worker;
use lb_orchestrate::{Orchestrator, RlmConfig};

use super::args::Args;
use super::open;
use crate::{Exit, Result, complain, say};

/// Answers what has no row in the folder yet; the rows are there after every run.
pub(crate) fn run(
    args: &Args,
    data: &Path,
    worker: &Worker,
    orchestrator: &mut (dyn Orchestrator + Send),
    config: RlmConfig,
) -> Result<Exit> {
    let items = questions::read_questions(data, args.limit)?;
    let asked = Questions { worker: worker.clone(), open: Arc::new(open(args.sandbox)), config };
    let finished = questions::run(&asked, orchestrator, &items, &args.out, &|row| {
        say!(
            "{} of {}, {}: {:?}, right {:?}: {} ({} turns, {} calls, {:.0} s; orchestrator {} in, {} cached, {} out)",
            items.iter().position(|item| item.id == row.id).unwrap_or_default() + 1,
            items.len(),
            row.id,
            row.answer.as_deref().or(row.stopped.as_deref()).unwrap_or_default(),
            row.answers.first().map_or("", String::as_str),
            row.outcome.name(),
            row.turns,
            row.calls,
            row.seconds,
            row.orchestrator.input,
            row.orchestrator.cached,
            row.orchestrator.output,
        );
    })?;
    say!("{}", questions::summary(&finished.rows));
    args.json.end(&finished.rows)?;
    if finished.cancelled {
        complain!("run: called off; the same command goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Done)
}
