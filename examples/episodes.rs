//! Questions about held-out logs, and tasks in the manner of RULER, under handoffs and published selections; with a report.
//!
//! `cargo run --release --example episodes` asks about 20 logs; `--native needle,multi-key --lengths 512,1024` asks those
//! tasks instead.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::eval::answers::table;
use latent_briefing::eval::calls::{self, EpisodePlan, Logs};
use latent_briefing::eval::condition::{at_each_size, split_conditions};
use latent_briefing::eval::datasets::ruler::NativeTask;
use latent_briefing::eval::pipeline::Existing;
use latent_briefing::eval::report::{Options, report};
use latent_briefing::eval::with_causes;
use latent_briefing::programs;
use latent_briefing::session::CancelToken;
use latent_briefing::{complain, say};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Ask about generated logs, one call a question.
#[derive(Parser)]
#[command(name = "episodes")]
struct Args {
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
    /// Conditions: handoffs as in examples/rlm, and selections such as snapkv:keep=0.1.
    #[arg(
        long = "handoff",
        value_name = "A,B,..",
        default_value = "full-kv,text-replay,latent-briefing:keep=0.1"
    )]
    handoff: String,
    /// Sizes; every condition with `keep=*` is asked at each.
    #[arg(long, value_delimiter = ',')]
    keep: Vec<f64>,
    /// A checkpoint; the built-in worker by default.
    #[arg(long)]
    worker: Option<String>,
    /// Seed of the first log.
    #[arg(long, default_value_t = 50_000)]
    seed: u64,
    /// Share of logs for choosing settings.
    #[arg(long, default_value_t = 0.0)]
    validation: f64,
    /// Logs at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Where rows and report go.
    #[arg(long, default_value = "episodes", value_name = "DIR")]
    out: PathBuf,
    /// Go on with what is there.
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("episodes: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn plan(args: &Args) -> Result<EpisodePlan> {
    let [low, high] = args.tokens[..] else { return Err("--tokens takes two numbers".into()) };
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
        ..EpisodePlan::default()
    })
}

fn run(args: &Args) -> Result<()> {
    let plan = plan(args)?;
    plan.validate()?;
    let worker = programs::worker(args.worker.as_ref(), false)?;
    let progress = ProgressBar::new_spinner();
    progress.set_style(ProgressStyle::with_template("{spinner} {pos} rows {elapsed} {wide_msg}")?);
    let existing = if args.resume { Existing::Resume } else { Existing::Refuse };
    // Whatever ends this, the rows until then are on disk, and --resume goes on.
    let cancel = CancelToken::new();
    let finished = calls::run(&worker, &plan, &args.out, existing, &cancel, &|row| {
        progress.inc(1);
        progress.set_message(latent_briefing::io::shown::visible_line(&format!(
            "{}: {}",
            row.item, row.condition
        )));
    })?;
    progress.finish_and_clear();
    say!("{}", table(&finished.rows, &plan.conditions));
    say!("{}", report(&args.out, &Options::default())?.html.display());
    Ok(())
}
