//! `bench sparse`: the documents of several questions as one stream, a worker for each question, and a gate that says who reads what.

use std::path::PathBuf;

use lb_coordinate::Gate;
use lb_eval::coordination::sparse::{self, SparsePlan};
use lb_eval::logs::{LoadOptions, load};
use lb_eval::pipeline::Shard;
use lb_eval::stats::bootstrap::Bootstrap;
use lb_session::CancelToken;
use serde_json::json;

use crate::output::JsonTo;
use crate::progress::at;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, complain, interrupt, say};

/// Sparse reading: of several workers, who has to read which document; against everyone reading everything
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Questions with their documents, in any form that `bench logs` reads.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Gates: all, attention:N, bm25:N, random:N,seed=S; N workers read a document. Separated by `;`.
    #[arg(long, value_delimiter = ';', default_values = ["attention:1", "bm25:1", "random:1"])]
    gates: Vec<Gate>,
    /// Questions, and so workers, of a stream.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How what a worker has read reaches its answer: a handoff, or two with a + between.
    #[arg(long, default_value = "full-kv")]
    handoff: String,
    /// The order in which documents come.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The first questions of the file alone.
    #[arg(long)]
    limit: Option<usize>,
    /// Work on every n-th stream alone, from the i-th: one run on several machines, put together by `bench merge`.
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// A folder for the rows; a run that was stopped goes on there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    json: JsonTo,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let plan = SparsePlan {
        gates: args.gates.clone(),
        workers: args.workers,
        handoff: args.handoff.clone(),
        seed: args.seed,
        shard: args.shard,
        ..SparsePlan::default()
    };
    plan.validate()?;
    let loaded = load(&args.data, &LoadOptions { limit: args.limit, ..LoadOptions::default() })?;
    for fault in &loaded.faults {
        complain!("sparse: left out: {fault}");
    }
    let worker = args.worker.open()?;
    let cancel = CancelToken::new();
    interrupt::heed(&cancel)?;
    let rows = loaded.items.len() / plan.workers * (1 + plan.gates.len());
    let progress = bar(rows as u64, "streams");
    let finished = sparse::run(&worker, &plan, &loaded.items, args.out.as_deref(), &cancel, &|row| {
        progress.inc(1);
        at(&progress, &row.gate);
    })?;
    progress.finish_and_clear();
    let figures = sparse::figures(&finished.rows, &Bootstrap::default());
    say!("{}", sparse::table(&figures));
    let questions = figures.first().map_or(0, |figure| figure.questions);
    say!(
        "{}: {questions} questions, {} workers a stream. Tokens and time are shares of those where everyone reads everything; retained is the share \
         of what the stream is then worth for the right answers.",
        worker.name(),
        plan.workers
    );
    args.json.end(&json!({ "gates": figures }))?;
    if finished.cancelled {
        complain!("sparse: called off; the same command with --out goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Done)
}
