//! What a quantised worker costs: size, error of the logits, and answers from the full cache and from a briefing, on
//! held-out episodes, f32 beside it.
//!
//! `cargo run --release -p lb-perf --example gguf_fidelity -- --questions 100`

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use candle_core::Device;
use clap::Parser;
use latent_briefing::model::{Checkpoint, GgufFormat};
use latent_briefing::prelude::*;
use lb_cli::{complain, say};
use lb_eval::answers::by_handoff::summarise;
use lb_eval::calls;
use lb_eval::condition::Condition;
use lb_eval::episodes::{Episode, EpisodeConfig};

type Failure = Box<dyn std::error::Error>;
type Rows = Vec<Vec<f32>>;

/// What each format of a GGUF file costs in fidelity.
#[derive(Parser)]
struct Args {
    /// A checkpoint folder in the Hugging Face layout instead of the built-in worker.
    #[arg(long, alias = "model")]
    worker: Option<PathBuf>,
    /// Formats to measure; all by default.
    #[arg(long, num_args = 1..)]
    formats: Vec<String>,
    /// Held-out questions, one per episode.
    #[arg(long, default_value_t = 100)]
    questions: u64,
    /// Episodes whose logits are compared at every position.
    #[arg(long, default_value_t = 2)]
    episodes: u64,
    /// Kept / original positions of the briefings.
    #[arg(long, default_value_t = 0.1)]
    keep_ratio: f64,
    /// Shortest and longest log in words.
    #[arg(long, num_args = 2, default_values_t = [285, 600])]
    words: Vec<usize>,
    /// Seed of the first episode.
    #[arg(long, default_value_t = 10_000)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("gguf_fidelity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let checkpoint = match &args.worker {
        Some(folder) => Checkpoint::dir(folder)?,
        None => Checkpoint::embedded(),
    };
    let reference = checkpoint.load(&Device::Cpu, None)?;
    lb_cli::tell(reference.warnings());
    let logits = logits(&reference, args)?;
    say!("| format | MB | logits: max | mean | same argmax | full cache | briefing |");
    say!("|---|---|---|---|---|---|---|");
    say!("| f32, not GGUF | | | | | {} |", answers(&reference, args)?);
    let folder = tempfile::tempdir()?;
    for format in
        GgufFormat::all().filter(|f| args.formats.is_empty() || args.formats.iter().any(|n| n == f.name()))
    {
        let path = folder.path().join(format!("{}.gguf", format.name()));
        checkpoint.write_gguf(&path, format)?;
        let size = fs::metadata(&path)?.len() as f64 / 1e6;
        let worker = Checkpoint::gguf(&path)?.load(&Device::Cpu, None)?;
        let errors = compare(&logits, &self::logits(&worker, args)?);
        say!("| {} | {size:.2} | {errors} | {} |", format.name(), answers(&worker, args)?);
    }
    let positions = logits.len();
    say!(
        "\n{positions} positions; differences relative to the range of the f32 logits; {} questions",
        args.questions
    );
    Ok(())
}

fn episode(args: &Args, index: u64) -> Result<Episode, Failure> {
    let config = EpisodeConfig::held_out((args.words[0], args.words[1]), 1);
    Ok(Episode::generate(args.seed + index, &config)?)
}

/// Logits of every position of the first episodes.
fn logits(worker: &Worker, args: &Args) -> Result<Rows, Failure> {
    let mut rows = Vec::new();
    for index in 0..args.episodes {
        let mut session = worker.session()?;
        session.extend_all(episode(args, index)?.lines.iter().map(Segment::from), &mut |_, _| {})?;
        let mut cache = worker.model().new_cache();
        rows.extend(worker.model().forward_all(session.tokens(), &mut cache)?.to_vec2::<f32>()?);
    }
    Ok(rows)
}

/// Largest and mean difference relative to the range, and the share of positions with the same best token.
fn compare(reference: &Rows, other: &Rows) -> String {
    let best = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id);
    let (mut max, mut sum, mut same) = (0f32, 0f64, 0);
    for (a, b) in reference.iter().zip(other) {
        max = a.iter().zip(b).fold(max, |max, (a, b)| max.max((a - b).abs()));
        sum += a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
        same += usize::from(best(a) == best(b));
    }
    let all = || reference.iter().flatten().copied();
    let range = f64::from(all().fold(f32::MIN, f32::max) - all().fold(f32::MAX, f32::min));
    let mean = sum / all().count() as f64 / range;
    format!("{:.1e} | {mean:.1e} | {:.3}", f64::from(max) / range, same as f64 / reference.len() as f64)
}

/// Accuracy with the full cache and with a briefing.
fn answers(worker: &Worker, args: &Args) -> Result<String, Failure> {
    let compaction = Compaction::keep_ratio(args.keep_ratio);
    let conditions = [Handoff::FullKv, Handoff::briefing(compaction)].map(Condition::handoff);
    let mut rows = Vec::new();
    for index in 0..args.questions {
        rows.extend(calls::ask(worker, &conditions, &episode(args, index)?)?);
    }
    Ok(summarise(&rows).iter().map(|s| format!("{:.3}", s.accuracy)).collect::<Vec<_>>().join(" | "))
}
