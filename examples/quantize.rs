//! Writes a checkpoint as a GGUF file, quantised or not, with tokenizer and chat template in it.
//!
//! `cargo run --release --example quantize -- --format q8_0 --output worker.gguf`
//!
//! Every example that takes `--model` reads the file, and so does `Worker::load`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use latent_briefing::model::{Checkpoint, GgufFormat};
use latent_briefing::programs;
use latent_briefing::{complain, say};

/// Writes a checkpoint as a GGUF file.
#[derive(Parser)]
struct Args {
    /// A checkpoint folder in the Hugging Face layout instead of the built-in worker.
    #[arg(long)]
    model: Option<PathBuf>,
    /// f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q3_k, q2_k, q5_1, q5_0, q4_1 or q4_0.
    #[arg(long, default_value = "q8_0", value_parser = format)]
    format: GgufFormat,
    /// The file to write.
    #[arg(long)]
    output: PathBuf,
}

fn format(name: &str) -> Result<GgufFormat, String> {
    GgufFormat::from_name(name)
        .ok_or_else(|| format!("no format that is written; try {}", GgufFormat::Q8_0.name()))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("quantize: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let checkpoint = match &args.model {
        Some(folder) => Checkpoint::dir(folder)?,
        None => Checkpoint::embedded(),
    };
    programs::tell(&checkpoint.warnings()?);
    checkpoint.write_gguf(&args.output, args.format)?;
    let size = fs::metadata(&args.output)?.len() as f64 / 1e6;
    say!("{}: {size:.2} MB as {}", args.output.display(), args.format.name());
    Ok(())
}
