//! How much of a recorded trajectory's worth each handoff keeps: likelihood of the right continuation, agreement with the
//! full cache, KL.
//!
//! `cargo run --release --example logs -- --data FILE.jsonl --worker MODEL` measures real logs on a real model; without
//! arguments, generated logs on the built-in worker.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::eval::condition::{at_each_size, split_conditions};
use latent_briefing::eval::logs::{Continuation, LoadOptions, LogItem, generated, load};
use latent_briefing::eval::retained::{RetainedPlan, Target, run, summarise, table};
use latent_briefing::eval::stats::bootstrap::Bootstrap;
use latent_briefing::eval::{with_causes, write_file};
use latent_briefing::programs;
use latent_briefing::session::CancelToken;
use latent_briefing::{complain, say};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measure how much of a recorded trajectory's worth each handoff keeps.
#[derive(Parser)]
#[command(name = "logs")]
struct Args {
    /// Recorded logs, a file or a folder: the plain form of docs/evaluating.md, chats of OpenAI and Anthropic, Who&When, SWE-agent,
    /// logs of examples/rlm. Generated ones by default.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// A checkpoint: folder, GGUF file or name on the hub; the built-in worker by default.
    #[arg(long)]
    worker: Option<String>,
    /// Refuse a worker that would be accepted with a warning.
    #[arg(long)]
    strict: bool,
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
    /// The first items of the file alone.
    #[arg(long)]
    limit: Option<usize>,
    /// A folder for the rows, one JSON line an item; a run that was stopped goes on there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            complain!("logs: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
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

fn measure(args: &Args) -> Result<ExitCode> {
    let plan = RetainedPlan {
        conditions: at_each_size(split_conditions(&args.handoff), &args.keep)?,
        target: args.target,
        target_tokens: args.target_tokens,
    };
    plan.validate()?;
    let mut items = items(args)?;
    items.truncate(args.limit.unwrap_or(usize::MAX));
    if items.is_empty() {
        return Err("there is no item to measure".into());
    }
    let worker = programs::worker(args.worker.as_ref(), args.strict)?;
    let cancel = CancelToken::new();
    let asked = cancel.clone();
    ctrlc::set_handler(move || asked.cancel())?;
    let progress = ProgressBar::new(items.len() as u64);
    progress.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} {elapsed} (of {duration}) {wide_msg}",
    )?);
    let finished = run(&worker, &plan, &items, args.out.as_deref(), &cancel, &|row| {
        progress.inc(1);
        progress.set_message(latent_briefing::io::shown::visible_line(&row.item));
        if let Some(failure) = &row.failure {
            progress.suspend(|| complain!("logs: item {}: {failure}", row.item));
        }
    })?;
    progress.finish_and_clear();
    let data = args.data.as_ref().map_or("generated".into(), |path| path.display().to_string());
    let summary = summarise(worker.name(), &data, &finished.rows, &Bootstrap::default())?;
    say!("{}", table(&summary));
    say!("{}", summary.meaning());
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&summary)?)?;
    }
    if finished.cancelled {
        complain!("logs: called off; the same command with --out goes on");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if summary.items == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
