//! What a compaction costs on this machine: step by step, against the original order of one head after another, against
//! the prefill of the same trajectory and against the machine's own matrix product.
//!
//! `cargo run --release --example overhead -- --shape qwen3-4b --seq-len 16384`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use latent_briefing::model::DeviceChoice;
use lb_cli::{complain, say, spinner, write_file};
use lb_perf::{OverheadConfig, measure, write_tensors};

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
            complain!("overhead: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> lb_cli::Result<()> {
    let (device, line) = (args.device.open()?, spinner());
    let stages = &mut |stage: &str| line.set_message(stage.to_owned());
    let (report, scene, compacted) = measure(&args.config, &device, stages)?;
    line.finish_and_clear();
    // What was measured is shown whatever becomes of the files.
    say!("{report}");
    if let Some(path) = &args.json {
        write_file(path, format!("{:#}\n", serde_json::to_value(&report)?).as_bytes())?;
    }
    if let Some(path) = &args.write_tensors {
        let named: Vec<_> = report.batched.iter().map(|b| b.name().clone()).zip(&compacted).collect();
        write_tensors(path, &scene, &named, &args.config.compaction(&args.config.selections[0]))?;
    }
    Ok(())
}
