//! `bench policies`: what each policy of the loop saves, alone, over the same recorded runs or logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_eval::episodes::{Episode, EpisodeConfig};
use lb_eval::logs::{Continuation, LoadOptions, load};
use lb_eval::pipeline::read_rows;
use lb_eval::runs::policies::{
    Counted, LogPolicies, ReplayPolicies, counted, counted_logs, kinds, log_table, over_logs, replayed, table,
};
use lb_eval::runs::questions::QuestionRow;
use lb_eval::runs::replay;
use lb_eval::runs::{LOGS, OpenRepl};
use lb_model::Worker;
use lb_orchestrate::{Policies, PriceTable, RunRecord};
use lb_sandbox::{MontyConfig, MontyRepl};
use lb_session::{BoundaryPolicy, CancelToken};

use crate::exit::Usage;
use crate::output::JsonTo;
use crate::progress::at;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, complain, interrupt, say};

/// Prices where none are given: round figures for a large hosted orchestrator, a small one, and a local worker by its tokens.
const PRICES: &str = include_str!("prices.toml");

/// What each policy saves alone: recorded runs with one policy on at a time, or what the context manager leaves of logs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Held-out episodes to record.
    #[arg(long, default_value_t = 10)]
    episodes: u64,
    /// First seed.
    #[arg(long, default_value_t = 40_000)]
    seed: u64,
    /// Questions of an episode.
    #[arg(long, default_value_t = 10)]
    questions: usize,
    /// A recorded run instead of episodes.
    #[arg(long, value_name = "LOG")]
    replay: Option<PathBuf>,
    /// The folder of `run --data FILE --out DIR`: every run of it.
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    runs: Option<PathBuf>,
    /// Recorded logs of other programs, for the context manager alone: tokens that it leaves, and what they are worth to the worker.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "runs"])]
    data: Option<PathBuf>,
    /// The first runs or items alone.
    #[arg(long)]
    limit: Option<usize>,
    /// Budgets of the context manager, as shares of what there is.
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 0.25])]
    share: Vec<f64>,
    /// Of --data: other ways to hand over the same trajectories.
    #[arg(long, value_name = "A,B,..", default_value = "recent:0.5,recent:0.25,bm25:0.5,bm25:0.25")]
    handoff: String,
    /// Of --data: count what the context manager leaves, and read nothing.
    #[arg(long, requires = "data")]
    count_only: bool,
    /// Of --data: tokens of the target.
    #[arg(long, default_value_t = 96)]
    target_tokens: usize,
    /// Of --data: a folder for the rows, where a run that was stopped goes on.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A file of policies (TOML), as of `run`; by default those of the library, a choice between two models and two phases.
    #[arg(long, value_name = "FILE")]
    policies: Option<PathBuf>,
    /// A price table (TOML).
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    json: JsonTo,
}

/// Policies where no file is given.
const USUAL: &str = include_str!("policies.toml");

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    if let Some(share) = args.share.iter().find(|share| !(**share > 0.0 && **share <= 1.0)) {
        return Err(Usage(format!("--share {share}: want above 0 and at most 1")).into());
    }
    let policies = match &args.policies {
        Some(path) => Policies::open(path)?,
        None => Policies::from_toml(USUAL)?,
    };
    let worker = args.worker.open()?;
    match &args.data {
        Some(data) => of_logs(args, &worker, policies, data),
        None => of_runs(args, &worker, policies),
    }
}

fn of_runs(args: &Args, worker: &Worker, policies: Policies) -> Result<Exit> {
    let prices = match &args.prices {
        Some(path) => PriceTable::open(path)?,
        None => PriceTable::from_toml(PRICES)?,
    };
    let open: OpenRepl = Arc::new(|| Ok(Box::new(MontyRepl::start(&MontyConfig::default())?)));
    let folder = tempfile::tempdir()?;
    let records = records(args, worker, &open, folder.path())?;
    if records.is_empty() {
        return Err("there is no run to replay".into());
    }
    let progress = bar(records.len() as u64, "runs");
    let memo = folder.path().join("answers");
    let policy = if args.worker.is_embedded() { replay::trained_policy() } else { BoundaryPolicy::default() };
    let context = policies.context.clone();
    let replays = ReplayPolicies {
        worker,
        open: &open,
        policy,
        prices: &prices,
        context: context.clone(),
        shares: args.share.clone(),
        memo: &memo,
    };
    let mut rows = replayed(&replays, &records, &mut || progress.inc(1))?;
    progress.finish_and_clear();
    let of = Counted {
        worker,
        prices: &prices,
        context,
        shares: args.share.clone(),
        models: policies.models,
        early_end: policies.early_end.unwrap_or_default(),
        phases: policies.phases,
    };
    rows.extend(counted(&of, &records)?);
    say!("{}", table(&rows));
    args.json.end(&rows)?;
    Ok(Exit::Done)
}

fn records(args: &Args, worker: &Worker, open: &OpenRepl, dir: &Path) -> Result<Vec<RunRecord>> {
    let most = args.limit.unwrap_or(usize::MAX);
    if let Some(log) = &args.replay {
        return Ok(vec![RunRecord::open(log)?]);
    }
    if let Some(folder) = &args.runs {
        let rows = read_rows::<QuestionRow>(folder)?.rows;
        let logs = rows.iter().filter_map(|row| row.log.as_ref()).take(most);
        let opened = logs.map(|log| RunRecord::open(folder.join(LOGS).join(log)));
        return Ok(opened.collect::<std::result::Result<_, _>>()?);
    }
    let config = EpisodeConfig::held_out((300, 900), args.questions);
    let progress = bar(args.episodes, "episodes recorded");
    let mut records = Vec::new();
    for seed in (args.seed..args.seed + args.episodes).take(most) {
        records.push(replay::record(worker, open, &Episode::generate(seed, &config)?, dir)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(records)
}

fn of_logs(args: &Args, worker: &Worker, policies: Policies, data: &Path) -> Result<Exit> {
    let options =
        LoadOptions { limit: args.limit, continuation: Continuation::LastMessage, ..LoadOptions::default() };
    let loaded = load(data, &options)?;
    for fault in &loaded.faults {
        complain!("policies: left out: {fault}");
    }
    let of = LogPolicies {
        worker,
        context: policies.context,
        shares: args.share.clone(),
        conditions: args.handoff.split(',').filter(|way| !way.is_empty()).map(str::to_owned).collect(),
        target_tokens: args.target_tokens,
        out: args.out.as_deref(),
    };
    if args.count_only {
        let rows = counted_logs(&of, &loaded.items)?;
        say!("{}", log_table(&rows));
        args.json.end(&rows)?;
        return Ok(Exit::Done);
    }
    let cancel = CancelToken::new();
    interrupt::heed(&cancel)?;
    let passes = 1 + args.share.len();
    let progress = bar((loaded.items.len() * passes) as u64, "items");
    let rows = over_logs(&of, &loaded.items, &cancel, &|row| {
        progress.inc(1);
        at(&progress, &row.item);
    })?;
    progress.finish_and_clear();
    for (kind, n) in kinds(&loaded.items) {
        say!("{n} {}", serde_json::to_value(kind)?.as_str().unwrap_or_default());
    }
    say!("{}", log_table(&rows));
    args.json.end(&rows)?;
    Ok(if cancel.is_cancelled() { Exit::Interrupted } else { Exit::Done })
}
