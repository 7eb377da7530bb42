//! Makes one self-contained page of a run from its log: turns, code, worker calls, and for each briefing the heat map of
//! the trajectory's tokens that it kept.
//!
//! `cargo run --release --example explain -- LOG` writes the page beside the log; any browser opens it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use latent_briefing::eval::write_file;
use latent_briefing::explain;
use latent_briefing::orchestrate::RunRecord;
use latent_briefing::{complain, say};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Make a self-contained HTML page of a run from its log.
#[derive(Parser)]
struct Args {
    /// The log of a run, `rlm_….jsonl`.
    log: PathBuf,
    /// Where the page goes; beside the log as `.html` by default.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Print the run as plain text as well, in lines of this width.
    #[arg(long, value_name = "WIDTH", num_args = 0..=1, default_missing_value = "100")]
    text: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("explain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let record = RunRecord::open(&args.log)?;
    let output = args.output.clone().unwrap_or_else(|| args.log.with_extension("html"));
    if same(&output, &args.log) {
        return Err(
            format!("{}: the page would replace the log; name another with -o", output.display()).into()
        );
    }
    if let Some(width) = args.text {
        anstream::print!("{}", explain::trace(&record, width));
    }
    write_file(&output, explain::run_page(&record)?.as_bytes())?;
    say!("{}", output.display());
    Ok(())
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
