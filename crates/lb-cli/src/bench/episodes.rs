//! `bench episodes`: questions about held-out logs, and tasks in the manner of RULER, under handoffs and published selections.

use std::path::PathBuf;

use lb_eval::answers::{AnswerRow, table};
use lb_eval::calls::{self, EpisodePlan, Logs, Servers};
use lb_eval::condition::{at_each_size, split_conditions};
use lb_eval::datasets::ruler::NativeTask;
use lb_eval::pipeline::{Existing, Shard};
use lb_eval::report::{Options, report};
use lb_session::CancelToken;
use serde_json::json;

use crate::exit::Usage;
use crate::output::JsonTo;
use crate::progress::at;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, complain, interrupt, say, spinner};

/// Generated logs, one call a question; with --native, tasks in the manner of RULER
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Logs, of each task and length.
    #[arg(long, default_value_t = 20)]
    episodes: usize,
    /// Questions about a held-out log.
    #[arg(long, default_value_t = 5)]
    questions: usize,
    /// Shortest and longest trajectory in tokens.
    #[arg(long, num_args = 2, default_values_t = [512, 2048])]
    tokens: Vec<usize>,
    /// Tasks in the place of held-out logs: needle, multi-key, multi-value, tracking-2 (to -4), counting.
    #[arg(long, value_delimiter = ',')]
    native: Vec<NativeTask>,
    /// Tokens of the tasks' logs.
    #[arg(long, value_delimiter = ',', default_values_t = [512, 1024, 2048])]
    lengths: Vec<usize>,
    /// Conditions: handoffs as of `run`, and selections such as snapkv:keep=0.1.
    #[arg(
        long = "handoff",
        value_name = "A,B,..",
        default_value = "full-kv,text-replay,latent-briefing:keep=0.1"
    )]
    handoff: String,
    /// Sizes; every condition with `keep=*` is asked at each.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<f64>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// Addresses of `latent-briefing serve`, which answer in the place of this process; --worker names their model. Their key
    /// is that of LATENT_BRIEFING_API_KEY.
    #[arg(long, value_name = "URL,URL,..", value_delimiter = ',')]
    servers: Vec<String>,
    /// Seed of the first log.
    #[arg(long, default_value_t = 50_000)]
    seed: u64,
    /// Share of logs for choosing settings.
    #[arg(long, default_value_t = 0.0)]
    validation: f64,
    /// Logs at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Work on every n-th log alone, from the i-th: one run on several machines, put together by `bench merge`.
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,
    /// Where rows and report go.
    #[arg(long, default_value = "episodes", value_name = "DIR")]
    out: PathBuf,
    /// Go on with what is there.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    json: JsonTo,
}

fn plan(args: &Args) -> Result<EpisodePlan> {
    let [low, high] = args.tokens[..] else {
        return Err(Usage("--tokens takes two numbers".to_owned()).into());
    };
    let tasks = args.native.iter();
    let mut logs: Vec<Logs> = tasks
        .flat_map(|task| args.lengths.iter().map(|tokens| Logs::Native { task: *task, tokens: *tokens }))
        .collect();
    if logs.is_empty() {
        logs.push(Logs::HeldOut { tokens: (low, high), questions: args.questions });
    }
    Ok(EpisodePlan {
        conditions: at_each_size(split_conditions(&args.handoff), &args.keep)?,
        logs,
        episodes: args.episodes,
        seed: args.seed,
        validation_share: args.validation,
        jobs: args.jobs,
        shard: args.shard,
        ..EpisodePlan::default()
    })
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let plan = plan(args)?;
    plan.validate()?;
    let worker = args.worker.open()?;
    let progress = spinner();
    let existing = if args.resume { Existing::Resume } else { Existing::Refuse };
    // Whatever ends this, the rows until then are on disk, and --resume goes on.
    let cancel = CancelToken::new();
    interrupt::heed(&cancel)?;
    let heard = |row: &AnswerRow| at(&progress, &format!("{}: {}", row.item, row.condition));
    let finished = if args.servers.is_empty() {
        calls::run(&worker, &plan, &args.out, existing, &cancel, &heard)?
    } else {
        let servers = Servers::new(&args.servers, std::env::var("LATENT_BRIEFING_API_KEY").ok())?;
        calls::run_on(&servers, &worker, &plan, &args.out, existing, &cancel, &heard)?
    };
    progress.finish_and_clear();
    say!("{}", table(&finished.rows, &plan.conditions));
    if finished.cancelled {
        complain!("episodes: called off; --resume goes on");
        args.json.end(&json!({ "dir": args.out, "rows": finished.rows.len(), "cancelled": true }))?;
        return Ok(Exit::Interrupted);
    }
    let files = report(&args.out, &Options::default())?;
    say!("{}", files.html.display());
    args.json.end(&json!({
        "dir": args.out,
        "rows": finished.rows.len(),
        "resumed": finished.resumed,
        "cancelled": false,
        "report": files.html,
        "summary": files.summary,
    }))?;
    Ok(Exit::Done)
}
