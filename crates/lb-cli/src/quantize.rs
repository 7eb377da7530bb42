//! `quantize`: a checkpoint as a GGUF file, with tokenizer and chat template in it.

use std::path::PathBuf;

use lb_model::GgufFormat;
use serde_json::json;

use crate::output::Json;
use crate::{Exit, Result, checkpoint, say, tell};

/// Write a checkpoint as a GGUF file, quantised or not
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkpoint's folder in the Hugging Face layout, or its name on the hub; without it, the built-in worker.
    #[arg(long, value_name = "MODEL")]
    worker: Option<PathBuf>,
    /// f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q3_k, q2_k, q5_1, q5_0, q4_1 or q4_0.
    #[arg(long, default_value = "q8_0", value_parser = format)]
    format: GgufFormat,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    json: Json,
}

fn format(name: &str) -> Result<GgufFormat, String> {
    let known = || GgufFormat::all().map(GgufFormat::name).collect::<Vec<_>>().join(", ");
    GgufFormat::from_name(name).ok_or_else(|| format!("no format that is written; want {}", known()))
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let checkpoint = checkpoint(args.worker.as_ref(), false)?;
    tell(&checkpoint.warnings()?);
    checkpoint.write_gguf(&args.output, args.format)?;
    let bytes = std::fs::metadata(&args.output)?.len();
    say!("{}: {:.2} MB as {}", args.output.display(), bytes as f64 / 1e6, args.format.name());
    args.json.end(&json!({ "file": args.output, "format": args.format.name(), "bytes": bytes }))?;
    Ok(Exit::Done)
}
