//! What a compaction costs on this machine: step by step, against the original order of one head after another, against
//! the prefill of the same trajectory and against the machine's own matrix product.
//!
//! `cargo run --release --example overhead -- --shape qwen3-4b --seq-len 16384`

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::complain;
use latent_briefing::eval::overhead::{Batched, OverheadConfig, measure, write_tensors};
use latent_briefing::eval::report::{with_causes, write_file};
use latent_briefing::model::DeviceChoice;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measure what it costs to compact random caches of a model's size.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    config: OverheadConfig,
    /// auto, cpu, cuda, cuda:N, metal or metal:N.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write cache, queries and results as safetensors, for tools/overhead-torch.
    #[arg(long)]
    write_tensors: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("overhead: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let device = args.device.open()?;
    let bar =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(100));
    let (report, scene, compacted) =
        measure(&args.config, &device, &mut |stage| bar.set_message(stage.to_owned()))?;
    bar.finish_and_clear();
    // What was measured is shown whatever becomes of the files.
    match write!(std::io::stdout(), "{report}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if let Some(path) = &args.json {
        write_file(path, format!("{}\n", serde_json::to_string_pretty(&report)?).as_bytes())?;
    }
    if let Some(path) = &args.write_tensors {
        let named: Vec<_> = report.batched.iter().map(Batched::name).zip(&compacted).collect();
        write_tensors(path, &scene, &named, &args.config.compaction(&args.config.selections[0]))?;
    }
    Ok(())
}
