//! What the built-in worker can do at all: exact match with the full cache and without the trajectory, on held-out
//! episodes, one question each.
//!
//! `cargo run --release -p lb-perf --example worker_accuracy -- --episodes 500`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use latent_briefing::prelude::*;
use lb_cli::{bar, complain, say};
use lb_eval::answers::by_handoff::{kinds_table, summarise, table};
use lb_eval::calls;
use lb_eval::condition::Condition;
use lb_eval::episodes::{Episode, EpisodeConfig};
use lb_eval::stats::median;

/// Exact match of whole answers on held-out episodes, with the full cache and without it.
#[derive(Parser)]
struct Args {
    /// A checkpoint folder in the Hugging Face layout instead of the built-in worker.
    #[arg(long, alias = "model")]
    worker: Option<PathBuf>,
    /// Episodes per length class.
    #[arg(long, default_value_t = 500)]
    episodes: u64,
    /// Seed of the first episode.
    #[arg(long, default_value_t = 10_000)]
    seed: u64,
    /// Shortest and longest log in words, once per length class; the defaults are about 512 to 2,048 and 2,048 to 4,096
    /// tokens of the built-in worker.
    #[arg(long, num_args = 2, default_values_t = [285, 1080, 1100, 2150])]
    words: Vec<usize>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("worker_accuracy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let worker = lb_cli::worker(args.worker.as_ref())?;
    let conditions = [Handoff::None, Handoff::FullKv].map(Condition::handoff);
    for class in args.words.chunks_exact(2) {
        let config = EpisodeConfig::held_out((class[0], class[1]), 1);
        let bar = bar(args.episodes, "episodes");
        let mut rows = Vec::new();
        for i in 0..args.episodes {
            rows.extend(calls::ask(&worker, &conditions, &Episode::generate(args.seed + i, &config)?)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let lengths = || rows.iter().map(|r| r.seq_len as f64);
        say!(
            "{} words: {} to {} positions, median {}",
            format_args!("{} to {}", class[0], class[1]),
            lengths().fold(f64::INFINITY, f64::min),
            lengths().fold(0.0, f64::max),
            median(lengths()),
        );
        let summaries = summarise(&rows);
        say!("{}\n\n{}\n", table(&summaries), kinds_table(&summaries));
    }
    Ok(())
}
