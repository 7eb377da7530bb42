//! What the built-in worker can do at all: exact match with the full cache and without the trajectory, on held-out
//! episodes, one question each.
//!
//! `cargo run --release --example worker_accuracy -- --episodes 500`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::eval::answers::by_handoff::{kinds_table, summarise, table};
use latent_briefing::eval::calls;
use latent_briefing::eval::condition::Condition;
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::eval::stats::median;
use latent_briefing::prelude::*;
use latent_briefing::programs;
use latent_briefing::{complain, say};

/// Exact match of whole answers on held-out episodes, with the full cache and without it.
#[derive(Parser)]
struct Args {
    /// A checkpoint folder in the Hugging Face layout instead of the built-in worker.
    #[arg(long)]
    model: Option<PathBuf>,
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
    let worker = programs::worker(args.model.as_ref(), false)?;
    let conditions = [Condition::handoff(Handoff::None), Condition::handoff(Handoff::FullKv)];
    for class in args.words.chunks_exact(2) {
        let config = EpisodeConfig::held_out((class[0], class[1]), 1);
        let bar = ProgressBar::new(args.episodes)
            .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} episodes, {eta} left")?);
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
