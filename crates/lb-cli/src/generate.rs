//! `generate`: a prompt continued or a conversation answered by any checkpoint.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use clap::ArgGroup;
use lb_io::files::Output;
use lb_io::shown::visible;
use lb_model::{Conversation, GenerateOptions, Generation, PrefillOptions, Worker};
use lb_session::read_text;
use serde_json::json;

use crate::ask::stopped;
use crate::output::{Json, is_json};
use crate::worker::WorkerArgs;
use crate::{Exit, Result, bar, complain, tell};

/// Continue a prompt or answer a conversation with any checkpoint
#[derive(clap::Args)]
#[command(group = ArgGroup::new("input").required(true))]
pub(crate) struct Args {
    #[command(flatten)]
    worker: WorkerArgs,
    /// Text to continue.
    #[arg(long, group = "input")]
    prompt: Option<String>,
    /// A JSON file with messages (a list, or an object with `messages`, `tools`, `enable_thinking`) to answer.
    #[arg(long, group = "input", value_name = "FILE")]
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
    /// Write the logits of every prompt position, f32 `[positions, vocab]`, to this safetensors file.
    #[arg(long, value_name = "FILE")]
    dump_logits: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let worker = args.worker.load()?;
    tell(worker.warnings());
    let tokens = prompt(args, &worker)?;
    let made = generate(args, &worker, &tokens)?;
    let rate = |count: usize, time: std::time::Duration| count as f64 / time.as_secs_f64().max(1e-9);
    let (prefill, decode) =
        (rate(tokens.len(), made.prefill), rate(made.tokens.len().saturating_sub(1), made.decode));
    complain!(
        "{} prompt tokens at {prefill:.1}/s, {} new tokens at {decode:.1}/s, {:?}; {} on {:?}, {:?}",
        tokens.len(),
        made.tokens.len(),
        made.stopped,
        worker.name(),
        worker.device().location(),
        worker.dtype(),
    );
    if let Some(path) = &args.dump_logits {
        dump(&worker, &tokens, path)?;
    }
    args.json.end(&json!({
        "text": made.text,
        "tokens": made.tokens,
        "stopped": stopped(made.stopped),
        "prompt_tokens": tokens.len(),
        "prefill_per_s": prefill,
        "decode_per_s": decode,
        "worker": worker.name(),
        "dtype": worker.dtype().as_str(),
    }))?;
    Ok(Exit::Done)
}

/// Generates; the text is on stdout as it comes.
fn generate(args: &Args, worker: &Worker, tokens: &[u32]) -> Result<Generation> {
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
    let made = worker.generate(&mut cache, tokens, &options, &mut |_, text| {
        if is_json() {
            return true;
        }
        // A file gets what the model wrote, a terminal what can be shown of it.
        let shown = if terminal { Cow::Owned(visible(text)) } else { Cow::Borrowed(text) };
        failed = write!(out, "{shown}").and_then(|()| out.flush()).err();
        failed.is_none()
    })?;
    if !is_json() && failed.is_none() {
        failed = writeln!(out).err();
    }
    failed.map_or(Ok(made), |error| Err(error.into()))
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
    let bar = bar(tokens.len() as u64, "positions");
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
