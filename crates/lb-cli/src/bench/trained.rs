//! `bench trained`: values and biases of briefings trained by gradient, beside the closed form that they begin with.

use std::path::PathBuf;

use lb_eval::condition::{at_each_size, split_conditions};
use lb_eval::logs::{Continuation, LoadOptions, LogItem, generated, load};
use lb_eval::pipeline::Shard;
use lb_eval::trained::{self, TrainedPlan, table};
use lb_session::CancelToken;

use crate::output::JsonTo;
use crate::progress::at;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, complain, interrupt, say};

/// After how many steps of training by gradient a briefing retains more than in closed form; without --data, generated logs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recorded logs, a file or a folder, as of bench logs. Generated ones by default.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Briefings to begin with.
    #[arg(long, value_name = "A,B,..", default_value = "latent-briefing:keep=0.1")]
    handoff: String,
    /// Sizes; every briefing with `keep=*` is trained at each.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<f64>,
    /// Steps after which a briefing is measured; 0 is the closed form.
    #[arg(long, value_delimiter = ',', default_values_t = TrainedPlan::default().steps)]
    steps: Vec<usize>,
    /// Lessons that the worker makes up about each trajectory.
    #[arg(long, default_value_t = TrainedPlan::default().lessons)]
    lessons: usize,
    /// Tokens of a lesson at most.
    #[arg(long, default_value_t = TrainedPlan::default().lesson_tokens)]
    lesson_tokens: usize,
    /// Tokens of a target at most.
    #[arg(long, default_value_t = TrainedPlan::default().target_tokens)]
    target_tokens: usize,
    /// Learning rate of AdamW.
    #[arg(long, default_value_t = TrainedPlan::default().rate)]
    learning_rate: f64,
    /// Leave biases, or values, as they are.
    #[arg(long, value_name = "values|biases", value_parser = ["values", "biases"])]
    only: Option<String>,
    /// Of the lessons.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The first trajectories alone.
    #[arg(long)]
    limit: Option<usize>,
    /// Work on every n-th trajectory alone, from the i-th.
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// A folder for the rows, one JSON line a trajectory; a run that was stopped goes on there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: JsonTo,
}

fn items(args: &Args) -> Result<Vec<LogItem>> {
    let Some(path) = &args.data else {
        return Ok(generated(50_000, args.limit.unwrap_or(8).min(1000), 3)?);
    };
    let options =
        LoadOptions { limit: args.limit, continuation: Continuation::LastMessage, ..LoadOptions::default() };
    let loaded = load(path, &options)?;
    for fault in &loaded.faults {
        complain!("trained: left out: {fault}");
    }
    Ok(loaded.items)
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let only = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let plan = TrainedPlan {
        briefings: at_each_size(split_conditions(&args.handoff), &args.keep)?,
        steps: args.steps.clone(),
        lessons: args.lessons,
        lesson_tokens: args.lesson_tokens,
        target_tokens: args.target_tokens,
        rate: args.learning_rate,
        values: only("values"),
        biases: only("biases"),
        seed: args.seed,
        shard: args.shard,
    };
    plan.validate()?;
    let items = items(args)?;
    if items.is_empty() {
        return Err("there is no trajectory to train on".into());
    }
    let worker = args.worker.open()?;
    let cancel = CancelToken::new();
    interrupt::heed(&cancel)?;
    let progress = bar(items.len() as u64, "items");
    let finished = trained::run(&worker, &plan, &items, args.out.as_deref(), &cancel, &|row| {
        progress.inc(1 + row.others as u64);
        at(&progress, &row.item);
        if let Some(failure) = &row.failure {
            progress.suspend(|| complain!("trained: {}: {failure}", row.item));
        }
    })?;
    progress.finish_and_clear();
    say!("{}", table(&plan, &finished.rows));
    let failed = finished.rows.iter().filter(|row| row.failure.is_some()).count();
    let failed = if failed == 0 { String::new() } else { format!(" {failed} could not be measured.") };
    say!(
        "{}: {} trajectories. Retained is the share of what the trajectory is worth for a target that was not trained on: 1 is the full \
         cache, 0 no trajectory.{failed}",
        worker.name(),
        finished.rows.len()
    );
    args.json.end(&finished.rows)?;
    if finished.cancelled {
        complain!("trained: called off; the same command with --out goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(if finished.rows.iter().all(|row| row.failure.is_some()) { Exit::Failed } else { Exit::Done })
}
