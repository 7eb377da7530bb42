//! `quickstart`: a local worker answers questions about an orchestrator's trajectory that reached it as a compacted KV cache.

mod own;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lb_am::Compaction;
use lb_eval::answers::by_handoff::{HandoffSummary, kinds_table, summarise, table};
use lb_eval::calls;
use lb_eval::condition::Condition;
use lb_eval::episodes::{Episode, EpisodeConfig};
use lb_eval::pipeline::in_parallel;
use lb_model::Worker;
use lb_session::CancelToken;
use serde_json::json;

use crate::output::JsonTo;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, say};

/// Answer questions about an orchestrator's trajectory through six handoffs and compare them
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    worker: WorkerArgs,
    /// Keep what scores above median + TAU x MAD (0 to 1e6; higher keeps less).
    #[arg(long, conflicts_with = "keep_ratio", allow_negative_numbers = true)]
    tau: Option<f64>,
    /// Keep this share of the positions, in (0, 1].
    #[arg(long, default_value_t = 0.1, allow_negative_numbers = true)]
    keep_ratio: f64,
    /// Held-out episodes to answer, five questions each; 60 by default, 2 shorter ones of a model of your own.
    #[arg(long)]
    episodes: Option<u64>,
    /// Seed of the first episode and of the random positions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the heat map of the first briefing as a self-contained page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    json: JsonTo,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let compaction = args.tau.map_or(Compaction::keep_ratio(args.keep_ratio), Compaction::mad);
    compaction.validate()?;
    let worker = args.worker.open()?;
    if args.worker.is_embedded() {
        with_built_in(args, &worker, &compaction)?;
    } else {
        own::measure(args, &worker, &compaction)?;
    }
    Ok(Exit::Done)
}

fn with_built_in(args: &Args, worker: &Worker, compaction: &Compaction) -> Result<()> {
    // 512 to 2,048 tokens of the built-in worker.
    let config = EpisodeConfig::held_out((285, 1080), 5);
    let episodes = args.episodes.unwrap_or(60);
    show::one(worker, &Episode::generate(args.seed, &config)?, compaction, args.html.as_deref())?;

    let conditions = Condition::main_table(compaction, args.seed);
    let bar = bar(episodes, "episodes");
    let asked = Mutex::new(BTreeMap::new());
    let ask = |number: usize| {
        let episode = Episode::generate(args.seed + number as u64, &config)?;
        let rows = calls::ask(worker, &conditions, &episode)?;
        asked.lock().unwrap_or_else(PoisonError::into_inner).insert(number, rows);
        bar.inc(1);
        Ok(())
    };
    // A small worker leaves cores idle: several logs at a time.
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    in_parallel(episodes as usize, jobs, &CancelToken::new(), &ask)?;
    bar.finish_and_clear();
    let asked = asked.into_inner().unwrap_or_else(PoisonError::into_inner);
    let rows: Vec<_> = asked.into_values().flatten().collect();
    let summaries = summarise(&rows);
    say!("{}\n\n{}\n\n{}", table(&summaries), kinds_table(&summaries), meaning(&summaries));
    args.json.end(&json!({
        "episodes": episodes, "seed": args.seed, "model": worker.name(), "handoffs": summaries,
    }))
}

/// What the numbers mean, in two sentences.
fn meaning(summaries: &[HandoffSummary]) -> String {
    let find = |name: &str| summaries.iter().find(|s| s.name == name);
    let (Some(briefing), Some(full), Some(recent), Some(random)) =
        (find("latent-briefing"), find("full-kv"), find("recent"), find("random"))
    else {
        return String::new();
    };
    let against = briefing.against_full.unwrap_or_default().map(|d| 100.0 * d);
    format!(
        "The worker answered {:.1} % of the questions from a briefing of {:.1} % of the positions, against {:.1} % from \
         the full cache (difference {:+.1} points, 95 % interval {:+.1} to {:+.1}), with {:.0} % fewer worker tokens than \
         replaying the notes as text. Cut to the same size without looking at the task, the cache answers {:.1} % (most \
         recent positions) and {:.1} % (random positions).",
        100.0 * briefing.accuracy,
        100.0 * briefing.keep_ratio,
        100.0 * full.accuracy,
        against[0],
        against[1],
        against[2],
        100.0 * briefing.saved.unwrap_or_default(),
        100.0 * recent.accuracy,
        100.0 * random.accuracy,
    )
}
