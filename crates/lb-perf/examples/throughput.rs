//! Load time, peak memory, prefill and decode speed of a checkpoint, ours beside candle-transformers' `qwen3` on the same folder, or beside
//! llama.cpp on the same GGUF file. Each side runs in a process of its own, one after the other and all in turn, so that the peaks are
//! its own and what else the machine does meets them alike.
//!
//! `cargo run --release -p lb-perf --example throughput -- --model DIR --dtype bf16`
//!
//! `cargo run --release -p lb-perf --example throughput -- --model FILE.gguf --llama DIR`, where `npm i -E node-llama-cpp@3.21.1` was run in DIR

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::qwen3::{Config, ModelForCausalLM};
use clap::{Parser, ValueEnum};
use latent_briefing::model::{Checkpoint, PrefillOptions};
use lb_cli::{complain, say};
use lb_perf::peak_mib;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Reads tokens from a position on (0 starts anew) and gives the logits of the last one.
type Step = Box<dyn FnMut(&[u32], usize) -> Result<Tensor>>;

/// Compare the speed of this library with candle-transformers on one dense Qwen3 folder, or with llama.cpp on one GGUF file.
#[derive(Parser)]
struct Args {
    /// The checkpoint's folder, or a GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// A folder with the package node-llama-cpp; for a GGUF file.
    #[arg(long)]
    llama: Option<PathBuf>,
    /// Rounds of all sides, each in a new process; medians are shown.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Dtypes of the weights; all sides run once in each.
    #[arg(long, value_delimiter = ',', default_values = ["f32", "bf16"])]
    dtype: Vec<DType>,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Tokens decoded behind it.
    #[arg(long, default_value_t = 32)]
    decode: usize,
    /// Repetitions in a process.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Run this side alone and print its figures as JSON.
    #[arg(long)]
    side: Option<Side>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Ours,
    Candle,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(side) = args.side {
        say!("{}", measure(args, side)?);
        return Ok(());
    }
    let gguf = args.model.is_file();
    let size = if gguf { args.model.metadata()?.len() } else { weights(&args.model)? };
    say!(
        "{} MiB of weights, {} + {} tokens, medians of {} processes",
        size >> 20,
        args.prompt,
        args.decode,
        args.rounds
    );
    let mut sides: Vec<(String, Command)> = Vec::new();
    for dtype in &args.dtype {
        for side in if gguf { &["ours"][..] } else { &["ours", "candle"] } {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--side", side, "--dtype", dtype.as_str(), "--model"]).arg(&args.model);
            command.args(["--prompt", &args.prompt.to_string(), "--decode", &args.decode.to_string()]);
            command.args(["--runs", &args.runs.to_string()]);
            sides.push((format!("{side} {}", dtype.as_str()), command));
        }
    }
    if let Some(folder) = &args.llama {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/peers/llama_speed.mjs");
        let mut command = Command::new("node");
        command.current_dir(folder).arg(script.canonicalize()?).arg(args.model.canonicalize()?);
        let threads = std::thread::available_parallelism()?.get();
        command.args([args.prompt, args.decode, args.runs, threads].map(|number| number.to_string()));
        sides.push(("llama.cpp".to_string(), command));
    }
    let mut found: Vec<Vec<Value>> = vec![Vec::new(); sides.len()];
    for _ in 0..args.rounds {
        for ((_, command), found) in sides.iter_mut().zip(&mut found) {
            let out = command.output()?;
            if !out.status.success() {
                return Err(String::from_utf8_lossy(&out.stderr).into_owned().into());
            }
            found.push(serde_json::from_slice(&out.stdout)?);
        }
    }
    say!("{:<22}{:>10}{:>12}{:>14}{:>13}", "", "load s", "peak MiB", "prefill tok/s", "decode tok/s");
    for ((name, _), found) in sides.iter().zip(&found) {
        let number = |field: &str| median(found.iter().filter_map(|found| found[field].as_f64()).collect());
        let [load, peak, prefill, decode] = ["load_s", "peak_mib", "prefill", "decode"].map(number);
        say!("{name:<22}{load:>10.2}{peak:>12.0}{prefill:>14.1}{decode:>13.2}");
    }
    Ok(())
}

/// Bytes of the folder's weights.
fn weights(folder: &Path) -> Result<u64> {
    let files = std::fs::read_dir(folder)?.filter_map(|entry| {
        Some(entry.ok()?).filter(|e| e.path().extension().is_some_and(|x| x == "safetensors"))
    });
    Ok(files.map(|entry| entry.metadata().map_or(0, |m| m.len())).sum())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One side's figures.
fn measure(args: &Args, side: Side) -> Result<Value> {
    let dtype = *args.dtype.first().ok_or("no dtype")?;
    let begin = Instant::now();
    let mut step: Step = match side {
        Side::Ours => ours(&args.model, dtype)?,
        Side::Candle => candle(&args.model, dtype)?,
    };
    let load_s = begin.elapsed().as_secs_f64();
    let prompt: Vec<u32> = (0..args.prompt as u32).map(|i| 10 + i * 7 % 250).collect();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let begin = Instant::now();
        let mut logits = step(&prompt, 0)?;
        prefill.push(args.prompt as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        for index in 0..args.decode {
            let token = logits.flatten_all()?.argmax(0)?.to_scalar::<u32>()?;
            logits = step(&[token], args.prompt + index)?;
        }
        decode.push(args.decode as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(
        json!({ "load_s": load_s, "peak_mib": peak_mib(), "prefill": median(prefill), "decode": median(decode) }),
    )
}

fn ours(model: &Path, dtype: DType) -> Result<Step> {
    let worker = Checkpoint::open(model)?.load(&Device::Cpu, Some(dtype))?;
    lb_cli::tell(worker.warnings());
    let mut cache = worker.model().new_cache();
    Ok(Box::new(move |tokens, position| {
        if position == 0 {
            cache = worker.model().new_cache();
        }
        Ok(worker.model().prefill(tokens, &mut cache, &PrefillOptions::default(), &mut |_, _| {})?)
    }))
}

fn candle(folder: &Path, dtype: DType) -> Result<Step> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    if let Some(theta) = config["rope_parameters"].get("rope_theta").cloned() {
        config["rope_theta"] = theta;
    }
    let config: Config = serde_json::from_value(config)?;
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|x| x == "safetensors"));
    #[allow(unsafe_code, reason = "candle maps files through an unsafe function")]
    let weights = unsafe { VarBuilder::from_mmaped_safetensors(&files, dtype, &Device::Cpu)? };
    let mut model = ModelForCausalLM::new(&config, weights)?;
    Ok(Box::new(move |tokens, position| {
        if position == 0 {
            model.clear_kv_cache();
        }
        Ok(model.forward(&Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?, position)?)
    }))
}
