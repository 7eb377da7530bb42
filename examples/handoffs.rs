//! The same recorded run under every handoff: accuracy, tokens and time side by side.
//!
//! `cargo run --release --example handoffs` records a program that reads held-out logs and asks its worker about them, and
//! replays it; `--replay LOG` takes a run of yours, `--runs DIR` all that `examples/rlm --data` left in a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use indicatif::ProgressBar;
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::eval::pipeline;
use latent_briefing::eval::runs::OpenRepl;
use latent_briefing::eval::runs::questions::QuestionRow;
use latent_briefing::eval::runs::replay::{self, HandoffRow};
use latent_briefing::eval::write_file;
use latent_briefing::model::Worker;
use latent_briefing::orchestrate::RunRecord;
use latent_briefing::programs;
use latent_briefing::sandbox::{MontyConfig, MontyRepl, sandbox_main};
use latent_briefing::session::BoundaryPolicy;
use latent_briefing::{complain, say};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Replay one run under every handoff.
#[derive(Parser)]
struct Args {
    /// Held-out episodes to record.
    #[arg(long, default_value_t = 20)]
    episodes: u64,
    /// First seed.
    #[arg(long, default_value_t = 40_000)]
    seed: u64,
    /// Words of a log, shortest and longest.
    #[arg(long, num_args = 2, default_values_t = [300, 900])]
    words: Vec<usize>,
    /// Questions of an episode.
    #[arg(long, default_value_t = 10)]
    questions: usize,
    /// Handoffs, as in examples/rlm.rs; all of them by default.
    #[arg(long, value_delimiter = ';')]
    handoff: Vec<String>,
    /// A checkpoint; the built-in worker by default.
    #[arg(long)]
    worker: Option<String>,
    /// A recorded run instead of episodes.
    #[arg(long, value_name = "LOG")]
    replay: Option<PathBuf>,
    /// The folder of `examples/rlm --data --out DIR`: every run of it, scored.
    #[arg(long, value_name = "DIR", conflicts_with = "replay", requires = "worker")]
    runs: Option<PathBuf>,
    /// Runs of --runs.
    #[arg(long, requires = "runs")]
    limit: Option<usize>,
    /// Where the rows go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    sandbox_main();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("handoffs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let worker = programs::worker(args.worker.as_ref(), false)?;
    let default = || replay::ALL.map(str::to_owned).to_vec();
    let chosen = if args.handoff.is_empty() { default() } else { args.handoff.clone() };
    let open: OpenRepl = Arc::new(|| Ok(Box::new(MontyRepl::start(&MontyConfig::default())?)));
    if let Some(log) = &args.replay {
        return replay_one(&worker, &open, &RunRecord::open(log)?, &chosen, args.worker.is_some());
    }
    if let Some(folder) = &args.runs {
        return runs(args, &worker, &open, folder, &chosen);
    }
    let [low, high] = args.words[..] else { return Err("--words takes two numbers".into()) };
    let config = EpisodeConfig::held_out((low, high), args.questions);
    let dir = tempfile::tempdir()?;
    let mut rows: Vec<HandoffRow> = vec![HandoffRow::default(); chosen.len()];
    let progress = ProgressBar::new(args.episodes);
    for seed in args.seed..args.seed + args.episodes {
        let episode = Episode::generate(seed, &config)?;
        let record = replay::record(&worker, &open, &episode, dir.path())?;
        for (row, handoff) in rows.iter_mut().zip(&chosen) {
            row.handoff.clone_from(handoff);
            let policy = replay::trained_policy();
            row.add(&episode, &replay::replay(&worker, &open, &record, &handoff.parse()?, policy, None)?);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    say!("{}", replay::table(&rows));
    if let Some(path) = &args.json {
        write_file(path, &serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

fn replay_one(
    worker: &Worker,
    open: &OpenRepl,
    record: &RunRecord,
    chosen: &[String],
    real: bool,
) -> Result<()> {
    let policy = if real { BoundaryPolicy::default() } else { replay::trained_policy() };
    for handoff in chosen {
        let made = replay::replay(worker, open, record, &handoff.parse()?, policy.clone(), None)?;
        let (tokens, ms) = (made.ledger.worker.tokens.worker_tokens(), 1e3 * made.ledger.worker.seconds());
        let answer = made.answer.unwrap_or_else(|stopped| format!("stopped {stopped}"));
        say!("{handoff}: {tokens} worker tokens, {ms:.0} ms: {}", answer.replace('\n', " | "));
    }
    Ok(())
}

/// Rows are written after each run, so that a long replay can be looked at.
fn runs(args: &Args, worker: &Worker, open: &OpenRepl, folder: &Path, chosen: &[String]) -> Result<()> {
    let mut rows = pipeline::read_rows::<QuestionRow>(folder)?.rows;
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    let progress = ProgressBar::new((rows.len() * chosen.len()) as u64);
    let path = args.json.clone().unwrap_or_else(|| folder.join("handoffs.json"));
    let (mut replayed, mut unwritten) = (Vec::new(), None);
    for row in rows.chunks(1) {
        let heard = &mut |_: &_| progress.inc(1);
        replayed.extend(replay::replay_rows(worker, open, folder, row, chosen, heard)?);
        // What cannot be written costs no figures.
        unwritten = write_file(&path, &serde_json::to_vec_pretty(&replayed)?).err();
    }
    progress.finish_and_clear();
    say!("{}", replay::replay_table(&replayed));
    unwritten.map_or(Ok(()), |error| Err(error.into()))
}
