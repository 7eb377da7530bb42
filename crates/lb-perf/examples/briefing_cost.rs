//! What a briefing costs on recorded logs, beside reading the trajectory once: the passes that yield its queries and each step of its
//! compaction.
//!
//! `cargo run --release -p lb-perf --example briefing_cost -- --data FILE.jsonl --worker MODEL`
//!
//! Each trajectory is read as often as it is briefed for, every configuration in turn; shares are of the reading's median on the same item.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use latent_briefing::candle::{DType, Device};
use latent_briefing::model::Checkpoint;
use latent_briefing::prelude::{Handoff, SessionConfig, WorkerSession};
use lb_cli::{say, tell};
use lb_eval::logs;
use lb_eval::stats::median;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Arguments {
    /// Recorded logs.
    #[arg(long)]
    data: PathBuf,
    /// A checkpoint's folder or file.
    #[arg(long)]
    worker: PathBuf,
    /// Of the weights and the cache.
    #[arg(long)]
    dtype: Option<DType>,
    /// Briefings; several with semicolons.
    #[arg(
        long,
        value_delimiter = ';',
        default_value = "latent-briefing:keep=0.1;latent-briefing:keep=0.05;latent-briefing:keep=0.1,echo=0"
    )]
    handoff: Vec<String>,
    /// Items.
    #[arg(long)]
    limit: Option<usize>,
    /// Rounds; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// One briefing's parts: queries, scores, mask, biases, values, and what else there is.
type Parts = [f64; 6];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let worker = Checkpoint::open(&arguments.worker)?.load(&Device::Cpu, arguments.dtype)?;
    tell(worker.warnings());
    let options = logs::LoadOptions { limit: arguments.limit, ..logs::LoadOptions::default() };
    let loaded = logs::load(&arguments.data, &options)?;
    let mut all: Vec<Vec<Parts>> = vec![Vec::new(); arguments.handoff.len()];
    for item in &loaded.items {
        let mut reading = Vec::new();
        let mut parts: Vec<Vec<Parts>> = vec![Vec::new(); arguments.handoff.len()];
        let mut positions = 0;
        for _ in 0..arguments.rounds {
            let mut session = WorkerSession::with(&worker, SessionConfig::default())?;
            let begin = Instant::now();
            session.extend_all(item.trajectory.clone(), &mut |_, _| {})?;
            reading.push(ms(begin.elapsed()));
            positions = session.seq_len();
            for (handoff, parts) in arguments.handoff.iter().zip(&mut parts) {
                let handoff: Handoff = handoff.parse()?;
                let config = handoff.brief_config().ok_or("only briefings are made here")?;
                let briefing = session.brief(item.task.as_str(), config.clone())?;
                let (timing, report) = (briefing.timing(), briefing.report().timing);
                let known = [report.scores, report.mask, report.beta, report.values].map(ms);
                let rest = ms(timing.compaction) - known.iter().sum::<f64>();
                parts.push([ms(timing.queries), known[0], known[1], known[2], known[3], rest]);
            }
        }
        let reading = median(reading);
        say!("{}, {positions} positions, read in {reading:.0} ms", item.id);
        for ((handoff, parts), all) in arguments.handoff.iter().zip(&parts).zip(&mut all) {
            let parts = medians(parts);
            line(handoff, "ms", &parts);
            all.push(parts.map(|part| 100.0 * part / reading));
        }
    }
    say!("medians of {} items, % of reading", loaded.items.len());
    for (handoff, parts) in arguments.handoff.iter().zip(&all) {
        line(handoff, "%", &medians(parts));
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn medians(parts: &[Parts]) -> Parts {
    std::array::from_fn(|part| median(parts.iter().map(|parts| parts[part])))
}

fn line(handoff: &str, unit: &str, parts: &Parts) {
    let [queries, scores, mask, beta, values, rest] = parts;
    say!(
        "  {handoff}: {:.1} {unit} (queries {queries:.1}, scores {scores:.1}, mask {mask:.1}, biases {beta:.1}, values {values:.1}, rest {rest:.1})",
        parts.iter().sum::<f64>()
    );
}
