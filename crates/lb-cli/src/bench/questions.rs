//! `bench questions`: the same recorded run under every handoff: accuracy, tokens and time side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_eval::episodes::{Episode, EpisodeConfig};
use lb_eval::pipeline::read_rows;
use lb_eval::runs::OpenRepl;
use lb_eval::runs::questions::QuestionRow;
use lb_eval::runs::replay::{self, HandoffRow};
use lb_model::Worker;
use lb_orchestrate::RunRecord;
use lb_sandbox::{MontyConfig, MontyRepl};
use lb_session::BoundaryPolicy;

use crate::exit::Usage;
use crate::output::{JsonTo, print_json};
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, say, write_file};

/// A recorded run, or all of a file of questions, replayed under every handoff; without one, a program reads held-out logs
#[derive(clap::Args)]
pub(crate) struct Args {
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
    /// Handoffs, as of `run`; all of them by default.
    #[arg(long, value_delimiter = ';')]
    handoff: Vec<String>,
    #[command(flatten)]
    worker: WorkerArgs,
    /// A recorded run instead of episodes.
    #[arg(long, value_name = "LOG")]
    replay: Option<PathBuf>,
    /// The folder of `run --data FILE --out DIR`: every run of it, scored.
    #[arg(long, value_name = "DIR", conflicts_with = "replay", requires = "worker")]
    runs: Option<PathBuf>,
    /// Runs of --runs.
    #[arg(long, requires = "runs")]
    limit: Option<usize>,
    #[command(flatten)]
    json: JsonTo,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let worker = args.worker.open()?;
    let default = || replay::ALL.map(str::to_owned).to_vec();
    let chosen = if args.handoff.is_empty() { default() } else { args.handoff.clone() };
    let open: OpenRepl = Arc::new(|| Ok(Box::new(MontyRepl::start(&MontyConfig::default())?)));
    match (&args.replay, &args.runs) {
        (Some(log), _) => of_run(args, &worker, &open, &RunRecord::open(log)?, &chosen)?,
        (None, Some(folder)) => of_runs(args, &worker, &open, folder, &chosen)?,
        (None, None) => of_episodes(args, &worker, &open, &chosen)?,
    }
    Ok(Exit::Done)
}

fn of_episodes(args: &Args, worker: &Worker, open: &OpenRepl, chosen: &[String]) -> Result<()> {
    let [low, high] = args.words[..] else {
        return Err(Usage("--words takes two numbers".to_owned()).into());
    };
    let config = EpisodeConfig::held_out((low, high), args.questions);
    let dir = tempfile::tempdir()?;
    let mut rows: Vec<HandoffRow> = vec![HandoffRow::default(); chosen.len()];
    let progress = bar(args.episodes, "episodes");
    for seed in args.seed..args.seed + args.episodes {
        let episode = Episode::generate(seed, &config)?;
        let record = replay::record(worker, open, &episode, dir.path())?;
        for (row, handoff) in rows.iter_mut().zip(chosen) {
            row.handoff.clone_from(handoff);
            let policy = replay::trained_policy();
            row.add(&episode, &replay::replay(worker, open, &record, &handoff.parse()?, policy, None)?);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    say!("{}", replay::table(&rows));
    args.json.end(&rows)
}

fn of_run(
    args: &Args,
    worker: &Worker,
    open: &OpenRepl,
    record: &RunRecord,
    chosen: &[String],
) -> Result<()> {
    let policy = if args.worker.is_embedded() { replay::trained_policy() } else { BoundaryPolicy::default() };
    let mut replayed = Vec::new();
    for handoff in chosen {
        let made = replay::replay(worker, open, record, &handoff.parse()?, policy.clone(), None)?;
        let (tokens, ms) = (made.ledger.worker.tokens.worker_tokens(), 1e3 * made.ledger.worker.seconds());
        let answer = made.answer.clone().unwrap_or_else(|stopped| format!("stopped {stopped}"));
        say!("{handoff}: {tokens} worker tokens, {ms:.0} ms: {}", answer.replace('\n', " | "));
        replayed.push(made);
    }
    args.json.end(&replayed)
}

/// Rows are written after each run, so that a long replay can be looked at.
fn of_runs(args: &Args, worker: &Worker, open: &OpenRepl, folder: &Path, chosen: &[String]) -> Result<()> {
    let mut rows = read_rows::<QuestionRow>(folder)?.rows;
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    let progress = bar((rows.len() * chosen.len()) as u64, "replays");
    let path = args.json.file().map_or_else(|| folder.join("handoffs.json"), Path::to_owned);
    let (mut replayed, mut unwritten) = (Vec::new(), None);
    for row in rows.chunks(1) {
        let heard = &mut |_: &_| progress.inc(1);
        replayed.extend(replay::replay_rows(worker, open, folder, row, chosen, heard)?);
        // What cannot be written costs no figures.
        unwritten = write_file(&path, &serde_json::to_vec_pretty(&replayed)?).err();
    }
    progress.finish_and_clear();
    say!("{}", replay::replay_table(&replayed));
    print_json(&replayed)?;
    unwritten.map_or(Ok(()), Err)
}
