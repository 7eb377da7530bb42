//! Rebuilds the report of a benchmark from its rows: Markdown, CSV, JSON, pictures and one self-contained page.
//!
//! `cargo run --release --example report -- DIR` reads `DIR/rows.jsonl` and writes beside it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use latent_briefing::eval::report::{Options, report};
use latent_briefing::eval::with_causes;
use latent_briefing::{complain, say};

/// Rebuild the report of a benchmark from its rows.
#[derive(Parser)]
struct Args {
    /// The folder of `rows.jsonl`.
    dir: PathBuf,
    /// The condition to compare with; `full-kv`, or the first where there is none.
    #[arg(long)]
    reference: Option<String>,
    /// Conditions to choose among per class, as `latent-briefing:tau=*`.
    #[arg(long)]
    family: Option<String>,
    /// Points of accuracy that a chosen setting may be below the reference.
    #[arg(long, default_value_t = 1.0)]
    tolerance: f64,
    /// Make a page of every run that has a log.
    #[arg(long)]
    pages: bool,
    /// Resamples of each interval.
    #[arg(long, default_value_t = 4_000)]
    resamples: usize,
    /// Seed of the resampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut options = Options { reference: args.reference, pages: args.pages, ..Options::default() };
    options.rule.family = args.family;
    options.rule.tolerance = args.tolerance / 100.0;
    options.bootstrap.resamples = args.resamples;
    options.bootstrap.seed = args.seed;
    match report(&args.dir, &options) {
        Ok(files) => {
            for fault in &files.faults {
                complain!("report: no page: {fault}");
            }
            for path in [&files.markdown, &files.csv, &files.json].into_iter().chain(&files.plots) {
                say!("{}", path.display());
            }
            say!("{}", files.html.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain!("report: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}
