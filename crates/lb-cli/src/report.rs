//! `report`: the report of a benchmark from its rows: Markdown, CSV, JSON, pictures and one self-contained page.

use std::path::PathBuf;

use lb_eval::report::{Options, report};
use serde_json::json;

use crate::output::Json;
use crate::{Exit, Result, complain, say};

/// Rebuild the report of a benchmark from its rows: Markdown, CSV, JSON, pictures and one self-contained page
#[derive(clap::Args)]
pub(crate) struct Args {
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
    #[command(flatten)]
    json: Json,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    args.json.begin();
    let mut options = Options { reference: args.reference, pages: args.pages, ..Options::default() };
    options.rule.family = args.family;
    options.rule.tolerance = args.tolerance / 100.0;
    options.bootstrap.resamples = args.resamples;
    options.bootstrap.seed = args.seed;
    let files = report(&args.dir, &options)?;
    for fault in &files.faults {
        complain!("report: no page: {fault}");
    }
    for path in [&files.markdown, &files.csv, &files.json].into_iter().chain(&files.plots) {
        say!("{}", path.display());
    }
    say!("{}", files.html.display());
    args.json.end(&json!({
        "html": files.html,
        "markdown": files.markdown,
        "csv": files.csv,
        "json": files.json,
        "plots": files.plots,
        "pages": files.pages,
        "faults": files.faults,
        "summary": files.summary,
    }))?;
    Ok(Exit::Done)
}
