//! Decoding behind long texts: over the full cache and over briefings, one worker and several, each in a process of its own.
//!
//! `cargo run --release -p lb-perf --example long_context -- --text FILE.jsonl --worker MODEL --positions 16384`
//!
//! A text is read once; its cache, and a briefing of it for each of `--workers` tasks, go to `--dir` (and are taken from there the next
//! time). Every side is then a process that loads the worker and what it is given, reads its tasks, and decodes: what a worker
//! needs that is handed a cache or a briefing. All workers of a side attend to what they have in common together.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Parser;
use latent_briefing::candle::{DType, Device};
use latent_briefing::model::{Checkpoint, KvCache, PrefillOptions, Worker};
use latent_briefing::prelude::{BriefConfig, Compaction, Segment, SessionConfig, WorkerSession};
use lb_cli::{say, tell};
use lb_eval::logs;
use lb_eval::stats::median;
use lb_perf::peak_mib;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Tokens that are read at a time at most.
const SEGMENT: usize = 2000;

#[derive(Parser)]
struct Arguments {
    /// Recorded logs: trajectories are read one behind the other until there are as many positions as are wanted; their tasks are asked.
    #[arg(long)]
    text: PathBuf,
    /// A checkpoint's folder or file.
    #[arg(long)]
    worker: PathBuf,
    /// Of the weights and the cache.
    #[arg(long, default_value = "bf16")]
    dtype: DType,
    /// Positions of the trajectory.
    #[arg(long, default_value_t = 16384)]
    positions: usize,
    /// Workers over the same trajectory, each with a task of its own.
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// What a briefing keeps.
    #[arg(long, default_value_t = 0.1)]
    keep: f64,
    /// Tokens that each worker decodes.
    #[arg(long, default_value_t = 24)]
    tokens: usize,
    /// Repetitions; medians are shown.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where caches lie.
    #[arg(long)]
    dir: PathBuf,
    /// Measure this side alone and print its figures as JSON.
    #[arg(long)]
    side: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(side) = &arguments.side {
        say!("{}", measure(&arguments, side)?);
        return Ok(());
    }
    if !arguments.path("tasks").exists() {
        prepare(&arguments)?;
    }
    say!(
        "{:<26}{:>9}{:>10}{:>12}{:>14}{:>14}",
        "",
        "workers",
        "load ms",
        "peak MiB",
        "first token s",
        "decode tok/s"
    );
    for (side, workers) in
        [("full", 1), ("briefing", 1), ("full", arguments.workers), ("briefing", arguments.workers)]
    {
        let out = Command::new(std::env::current_exe()?)
            .args(std::env::args().skip(1))
            .args(["--side", &format!("{side}-{workers}")])
            .output()?;
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned().into());
        }
        let found: Value = serde_json::from_slice(&out.stdout)?;
        let number = |field: &str| found[field].as_f64().unwrap_or(f64::NAN);
        let [load, peak, first, decode] = ["load_ms", "peak_mib", "first_s", "decode"].map(number);
        say!("{side:<26}{workers:>9}{load:>10.0}{peak:>12.0}{first:>14.2}{decode:>14.2}");
    }
    Ok(())
}

impl Arguments {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}-{name}", self.positions))
    }

    fn load(&self) -> Result<Worker> {
        let worker = Checkpoint::open(&self.worker)?.load(&Device::Cpu, Some(self.dtype))?;
        tell(worker.warnings());
        Ok(worker)
    }
}

/// Reads the text and briefs for the tasks.
fn prepare(arguments: &Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.dir)?;
    let worker = arguments.load()?;
    let loaded = logs::load(&arguments.text, &logs::LoadOptions::default())?;
    let mut session = WorkerSession::with(&worker, SessionConfig::default())?;
    let begin = Instant::now();
    let messages = loaded.items.iter().flat_map(|item| &item.trajectory);
    let mut text = messages.flat_map(|segment| segment.text.chars()).peekable();
    while text.peek().is_some() {
        // A token has three characters or more, as a rule.
        let room = arguments.positions.saturating_sub(session.seq_len()).min(SEGMENT);
        if room < 16 {
            break;
        }
        let part: String = text.by_ref().take(3 * room).collect();
        if !part.trim().is_empty() {
            session.extend(Segment::finding(part))?;
        }
    }
    let reading = begin.elapsed();
    session.cache().save(arguments.path("full"))?;
    let tasks: Vec<&str> =
        loaded.items.iter().map(|item| item.task.as_str()).take(arguments.workers).collect();
    let tokens: Vec<Vec<u32>> =
        tasks.iter().map(|task| session.task_tokens(*task)).collect::<std::result::Result<_, _>>()?;
    let mut brief = std::time::Duration::ZERO;
    for (number, task) in tasks.iter().enumerate() {
        let briefing = session.brief(*task, BriefConfig::from(Compaction::keep_ratio(arguments.keep)))?;
        brief += briefing.timing().total();
        briefing.cache().save(arguments.path(&format!("briefing-{number}")))?;
    }
    say!(
        "{} positions read in {:.1} s, {:.2} s to brief for a task",
        session.seq_len(),
        reading.as_secs_f64(),
        brief.as_secs_f64() / tasks.len() as f64
    );
    std::fs::write(arguments.path("tasks"), serde_json::to_string(&tokens)?)?;
    Ok(())
}

fn measure(arguments: &Arguments, side: &str) -> Result<Value> {
    let (kind, workers) = side.split_once('-').ok_or("no such side")?;
    let workers: usize = workers.parse()?;
    let worker = arguments.load()?;
    let tasks: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(arguments.path("tasks"))?)?;
    let cache = |path: &Path| KvCache::load(path, worker.config(), &Device::Cpu);
    let begin = Instant::now();
    let given: Vec<KvCache> = if kind == "full" {
        let full = cache(&arguments.path("full"))?;
        (0..workers).map(|_| full.fork()).collect()
    } else {
        let briefings = (0..workers).map(|number| cache(&arguments.path(&format!("briefing-{number}"))));
        briefings.collect::<std::result::Result<_, _>>()?
    };
    let load_ms = begin.elapsed().as_secs_f64() * 1e3;
    let (mut first, mut decode) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let mut caches: Vec<KvCache> = given.iter().map(KvCache::fork).collect();
        let begin = Instant::now();
        let read = PrefillOptions::default();
        let logits = worker.model().prefill_batch(&tasks[..workers], &mut caches, &read, &mut |_, _| {})?;
        first.push(begin.elapsed().as_secs_f64());
        // The worker's own end tokens are no end here.
        let begin = Instant::now();
        let mut next = logits;
        for _ in 0..arguments.tokens {
            let tokens: Vec<[u32; 1]> = next
                .iter()
                .map(|logits| Ok([logits.argmax(0)?.to_scalar::<u32>()?]))
                .collect::<latent_briefing::candle::Result<_>>()?;
            next = worker.model().forward_batch(&tokens, &mut caches)?;
        }
        decode.push((arguments.tokens * workers) as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(
        json!({ "load_ms": load_ms, "peak_mib": peak_mib(), "first_s": median(first), "decode": median(decode) }),
    )
}
