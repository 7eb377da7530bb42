//! Continues a prompt or answers a conversation with any checkpoint: a folder, a GGUF file, a name on the hub, or the
//! built-in worker.
//!
//! `cargo run --release --example generate -- --model Qwen/Qwen3-0.6B --prompt "Once upon a time"`

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::{DType, Tensor};
use clap::{ArgGroup, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use latent_briefing::complain;
use latent_briefing::io::files::Output;
use latent_briefing::io::shown::visible;
use latent_briefing::model::{Conversation, DeviceChoice, GenerateOptions, PrefillOptions};
use latent_briefing::prelude::*;
use latent_briefing::programs;
use latent_briefing::session::read_text;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Generate text with any checkpoint.
#[derive(Parser)]
#[command(group = ArgGroup::new("input").required(true))]
struct Args {
    /// A folder in the Hugging Face layout, a GGUF file, or org/name on the hub; the built-in worker if left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Refuse a model that would be accepted with a warning.
    #[arg(long)]
    strict: bool,
    /// Text to continue.
    #[arg(long, group = "input")]
    prompt: Option<String>,
    /// A JSON file with messages (a list, or an object with `messages`, `tools`, `enable_thinking`) to answer.
    #[arg(long, group = "input")]
    messages: Option<PathBuf>,
    /// Token ids to continue.
    #[arg(long, group = "input", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,
    /// Tokens at most.
    #[arg(long, default_value_t = 64)]
    max_new_tokens: usize,
    /// Sample at this temperature; greedy if left out or 0.
    #[arg(long)]
    temperature: Option<f64>,
    /// Sample from the likeliest tokens that together have this probability.
    #[arg(long, requires = "temperature")]
    top_p: Option<f64>,
    /// Sample from this many likeliest tokens.
    #[arg(long, requires = "temperature")]
    top_k: Option<usize>,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// f32, f16 or bf16: of the weights, or of the cache where they are quantised.
    #[arg(long)]
    dtype: Option<DType>,
    /// auto, cpu, cuda, cuda:N, metal or metal:N.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Write the logits of every prompt position, f32 `[positions, vocab]`, to this safetensors file.
    #[arg(long)]
    dump_logits: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("generate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let checkpoint = programs::checkpoint(args.model.as_ref(), args.strict)?;
    let worker = checkpoint.load(&args.device.open()?, args.dtype)?;
    programs::tell(worker.warnings());
    let tokens = prompt(args, &worker)?;
    let options = GenerateOptions {
        max_new_tokens: args.max_new_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        seed: args.seed,
        ..GenerateOptions::default()
    };
    let mut cache = worker.model().new_cache();
    let mut out = std::io::stdout();
    let terminal = out.is_terminal();
    let mut failed = None;
    let answer = worker.generate(&mut cache, &tokens, &options, &mut |_, text| {
        // A file gets what the model wrote, a terminal what can be shown of it.
        let shown = if terminal { Cow::Owned(visible(text)) } else { Cow::Borrowed(text) };
        failed = write!(out, "{shown}").and_then(|()| out.flush()).err();
        failed.is_none()
    })?;
    writeln!(out)?;
    let rate = |count: usize, time: std::time::Duration| count as f64 / time.as_secs_f64();
    complain!(
        "{} prompt tokens at {:.1}/s, {} new tokens at {:.1}/s, {:?}; {} on {:?}, {:?}",
        tokens.len(),
        rate(tokens.len(), answer.prefill),
        answer.tokens.len(),
        rate(answer.tokens.len().saturating_sub(1), answer.decode),
        answer.stopped,
        worker.name(),
        worker.device().location(),
        worker.dtype(),
    );
    if let Some(path) = &args.dump_logits {
        dump(&worker, &tokens, path)?;
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn prompt(args: &Args, worker: &Worker) -> Result<Vec<u32>> {
    if let Some(tokens) = &args.tokens {
        return Ok(tokens.clone());
    }
    if let Some(text) = &args.prompt {
        return Ok(worker.tokenizer().encode_prompt(text)?);
    }
    let path = args.messages.as_ref().ok_or("no input")?;
    let text = read_text(path)?;
    let conversation =
        Conversation::from_json(text.as_bytes()).map_err(|e| format!("{}: {e}", path.display()))?;
    let options = conversation.options();
    Ok(worker.encode_conversation(&conversation.messages, &options)?)
}

/// Reads the prompt once more with all its logits, and writes them beside `path` before they get that name.
fn dump(worker: &Worker, tokens: &[u32], path: &Path) -> Result<()> {
    let bar = ProgressBar::new(tokens.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} positions, {eta} left")?);
    let mut cache = worker.model().new_cache();
    let mut rows = Vec::new();
    for part in tokens.chunks(PrefillOptions::default().chunk) {
        rows.push(worker.model().forward_all(part, &mut cache)?);
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    if rows.is_empty() {
        return Err("the prompt is empty".into());
    }
    let logits = Tensor::cat(&rows, 0)?;
    let failed = |error: String| format!("{}: {error}", path.display());
    let output = Output::create(path).map_err(|error| failed(error.to_string()))?;
    candle_core::safetensors::save(&[("logits", logits)].into(), output.path())
        .map_err(|error| failed(error.to_string()))?;
    Ok(output.finish().map_err(|error| failed(error.to_string()))?)
}
