//! `bench debate`: agents that have read the same documents answer in rounds, and tell each other in several ways.

use std::path::PathBuf;

use lb_coordinate::DebateConfig;
use lb_eval::coordination::debate::{self, DebatePlan};
use lb_eval::logs::{LoadOptions, load};
use lb_eval::pipeline::Shard;
use lb_session::CancelToken;
use serde_json::json;

use crate::output::JsonTo;
use crate::progress::at;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, complain, interrupt, say};

/// Debates over one question: as text again, as what is new alone, over briefings of what was said; against one agent alone
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Questions with their documents, in any form that `bench logs` reads.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Ways: alone, text, diff, or a handoff for what an agent has in its cache. Separated by `;`.
    #[arg(long, value_delimiter = ';', default_values = ["alone", "text", "diff", "latent-briefing:keep=0.1"])]
    told: Vec<String>,
    /// Agents.
    #[arg(long, default_value_t = 3)]
    agents: usize,
    /// Rounds at most.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Holds all rounds, also where all agents agree.
    #[arg(long)]
    to_the_end: bool,
    /// Of the agents' sampling.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// Same seed, same replies.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The first questions of the file alone.
    #[arg(long)]
    limit: Option<usize>,
    /// Work on every n-th question alone, from the i-th: one run on several machines, put together by `bench merge`.
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
    let plan = DebatePlan {
        told: args.told.clone(),
        debate: DebateConfig {
            agents: args.agents,
            rounds: args.rounds,
            ends_early: !args.to_the_end,
            temperature: args.temperature,
            seed: args.seed,
            ..DebateConfig::default()
        },
        shard: args.shard,
    };
    plan.validate()?;
    let loaded = load(&args.data, &LoadOptions { limit: args.limit, ..LoadOptions::default() })?;
    for fault in &loaded.faults {
        complain!("debate: left out: {fault}");
    }
    let worker = args.worker.open()?;
    let cancel = CancelToken::new();
    interrupt::heed(&cancel)?;
    let progress = bar((loaded.items.len() * plan.told.len()) as u64, "debates");
    let finished = debate::run(&worker, &plan, &loaded.items, args.out.as_deref(), &cancel, &|row| {
        progress.inc(1);
        at(&progress, &format!("{}: {}", row.item, row.told));
    })?;
    progress.finish_and_clear();
    let figures = debate::figures(&finished.rows);
    say!("{}", debate::table(&figures));
    say!(
        "{}: {} agents, at most {} rounds; figures of a question. Documents are read once for all agents, which is not counted in; as text they \
         are read again in every call, which is.",
        worker.name(),
        args.agents,
        args.rounds
    );
    args.json.end(&json!({ "ways": figures }))?;
    if finished.cancelled {
        complain!("debate: called off; the same command with --out goes on");
        return Ok(Exit::Interrupted);
    }
    Ok(Exit::Done)
}
