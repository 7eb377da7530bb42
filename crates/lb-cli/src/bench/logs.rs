//! `bench logs`: how much of a recorded trajectory's worth each handoff keeps: likelihood of the right continuation, agreement
//! with the full cache, KL.

use std::path::PathBuf;

use lb_eval::condition::{at_each_size, split_conditions};
use lb_eval::logs::{Continuation, LoadOptions, LogItem, generated, load};
use lb_eval::pipeline::Shard;
use lb_eval::retained::{RetainedPlan, Target, picture, summarise, table};
use lb_eval::stats::bootstrap::Bootstrap;

use super::retained::{beside, measure};
use crate::output::JsonTo;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, complain, say};

/// How much of what recorded logs are worth to a worker each handoff keeps; without --data, generated logs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recorded logs, a file or a folder: the plain form of docs/evaluating.md, chats of OpenAI and Anthropic, Who&When, SWE-agent,
    /// logs of `run`. Generated ones by default.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// A second model, which writes what a condition with by=orchestrator hands over, as in summary:200,by=orchestrator.
    #[arg(long, value_name = "MODEL")]
    orchestrator: Option<PathBuf>,
    /// Conditions: handoffs, and published selections such as snapkv:keep=0.1.
    #[arg(
        long,
        value_name = "A,B,..",
        default_value = "full-kv,none,latent-briefing:keep=0.1,snapkv:keep=0.1"
    )]
    handoff: String,
    /// Sizes; every condition with `keep=*` is measured at each.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<f64>,
    /// What is read behind a handoff: the recorded continuation (reference), or the worker's over the full cache (own).
    #[arg(long, default_value = "reference")]
    target: Target,
    /// Tokens of it.
    #[arg(long, default_value_t = 96)]
    target_tokens: usize,
    /// Measure the effective rank of the keys and values that each condition leaves (exp of the entropy of singular values, mean over
    /// layers and heads).
    #[arg(long)]
    rank: bool,
    /// The first items of the file alone.
    #[arg(long)]
    limit: Option<usize>,
    /// Work on every n-th document alone, from the i-th: one run on several machines, put together by `bench merge`.
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// A folder for the rows, one JSON line an item; a run that was stopped goes on there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A PNG of what is retained against bytes and against worker tokens.
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    json: JsonTo,
}

fn items(args: &Args) -> Result<Vec<LogItem>> {
    let Some(path) = &args.data else { return Ok(generated(50_000, 20, 3)?) };
    let options =
        LoadOptions { limit: args.limit, continuation: Continuation::LastMessage, ..LoadOptions::default() };
    let loaded = load(path, &options)?;
    for fault in &loaded.faults {
        complain!("logs: left out: {fault}");
    }
    for note in &loaded.notes {
        complain!("logs: {note}");
    }
    Ok(loaded.items)
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let plan = RetainedPlan {
        conditions: at_each_size(split_conditions(&args.handoff), &args.keep)?,
        target: args.target,
        target_tokens: args.target_tokens,
        rank: args.rank,
        shard: args.shard,
    };
    plan.validate()?;
    let mut items = items(args)?;
    items.truncate(args.limit.unwrap_or(usize::MAX));
    if items.is_empty() {
        return Err("there is no item to measure".into());
    }
    let worker = args.worker.open()?;
    let orchestrator = beside(&args.worker, args.orchestrator.as_ref())?;
    let finished =
        measure(("logs", "item"), (&worker, orchestrator.as_ref()), &plan, &items, args.out.as_deref())?;
    let data = args.data.as_ref().map_or("generated".into(), |path| path.display().to_string());
    let summary = summarise(worker.name(), &data, &finished.rows, &Bootstrap::default())?;
    say!("{}", table(&summary));
    say!("{}", summary.meaning());
    if let Some(path) = &args.picture {
        picture(&summary, path)?;
    }
    args.json.end(&summary)?;
    if finished.cancelled {
        complain!("logs: called off; the same command with --out goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(if summary.items == 0 { Exit::Failed } else { Exit::Done })
}
