//! What `tools/lookahead-vectors` trains on: for each item of a log the cache of trajectory and task, and what the answer's
//! queries see of the trajectory.
//!
//! `cargo run --release --features full --example lookahead_items -- --data FILE.jsonl --worker MODEL.gguf --out FOLDER`

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use latent_briefing::am::{LayerKv, Observed, ScoreAgg};
use latent_briefing::candle::{DType, Device, Tensor, safetensors};
use latent_briefing::eval::logs::{self, LogItem};
use latent_briefing::eval::retained::Target;
use latent_briefing::model::{GenerateOptions, PrefillOptions, Worker};
use latent_briefing::prelude::OpenSession;
use latent_briefing::session::{Handoff, WorkerSession};
use lb_cli::{complain, say};

type Failure = Box<dyn std::error::Error>;

/// Asked over the full cache for tasks besides the recorded one.
const ASK: &str = "Write one short question about the following part, which the text above answers. Write nothing but the question.";

/// Write caches and answers' scores of recorded work.
#[derive(Parser)]
struct Args {
    /// Recorded work, as `bench logs` reads it.
    #[arg(long)]
    data: PathBuf,
    /// A GGUF file or a folder.
    #[arg(long)]
    worker: String,
    /// A folder for one safetensors file an item and `items.jsonl`; what is in it stays.
    #[arg(long)]
    out: PathBuf,
    /// Whose answers: reference, or own for what the worker writes over the full cache.
    #[arg(long, default_value = "own")]
    target: Target,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Further tasks an item, questions that the worker writes about its segments; answers to them are the worker's own.
    #[arg(long, default_value_t = 0)]
    questions: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("lookahead_items: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let worker = Worker::load(&args.worker)?;
    std::fs::create_dir_all(&args.out)?;
    let index = args.out.join("items.jsonl");
    let mut number = std::fs::read_to_string(&index).map_or(0, |text| text.lines().count());
    let mut index = BufWriter::new(File::options().create(true).append(true).open(index)?);
    for item in logs::load(&args.data, &logs::LoadOptions::default())?.items {
        let mut session = worker.session()?;
        session.extend_all(item.trajectory.clone(), &mut |_, _| {})?;
        let mut tasks = vec![(item.task.clone(), args.target)];
        for question in questions(&mut session, &item, args.questions)? {
            tasks.push((question, Target::Own));
        }
        for (task, target) in tasks {
            let answer = answer(&session, &item, &task, target, args.tokens)?;
            let file = format!("{number}.safetensors");
            let task_len = write(&session, &task, &answer, &args.out.join(&file))?;
            let line = serde_json::json!({
                "file": file, "id": item.id, "model": worker.name(), "task": task,
                "seq_len": session.seq_len(), "task_len": task_len, "answer": answer,
                "answer_text": worker.tokenizer().decode(&answer)?,
            });
            writeln!(index, "{line}")?;
            index.flush()?;
            say!("{file}: {} positions, {} tokens of an answer", session.seq_len(), answer.len());
            number += 1;
        }
    }
    Ok(())
}

/// Questions about segments at even distances.
fn questions(session: &mut WorkerSession, item: &LogItem, count: usize) -> Result<Vec<String>, Failure> {
    let (segments, mut questions) = (&item.trajectory, Vec::new());
    for part in 0..count.min(segments.len()) {
        let segment = &segments[(2 * part + 1) * segments.len() / (2 * count.min(segments.len()))];
        let beginning: String = segment.text.chars().take(200).collect();
        let asked = session.ask(format!("{ASK}\n\n{beginning}")).via(Handoff::FullKv).at_most(48).run()?;
        let question = asked.answer.text.trim().to_owned();
        if !question.is_empty() {
            questions.push(question);
        }
    }
    Ok(questions)
}

/// Tokens of the recorded answer, or of the worker's own.
fn answer(
    session: &WorkerSession,
    item: &LogItem,
    task: &str,
    target: Target,
    most: usize,
) -> Result<Vec<u32>, Failure> {
    let worker = session.worker();
    if target == Target::Reference {
        let mut tokens = worker.tokenizer().encode_text(&item.target)?;
        tokens.truncate(most);
        return Ok(tokens);
    }
    let (mut cache, task) = (session.cache().fork(), session.task_tokens(task)?);
    let options = GenerateOptions::greedy(most);
    Ok(worker.generate(&mut cache, &task, &options, &mut |_, _| true)?.tokens)
}

/// One item; how many tokens its task has.
fn write(session: &WorkerSession, task: &str, answer: &[u32], path: &Path) -> Result<usize, Failure> {
    let (worker, read, heard) = (session.worker(), PrefillOptions::default(), &mut |_: usize, _: usize| {});
    let (model, mut cache, seq_len) = (worker.model(), session.cache().fork(), session.seq_len());
    let task = session.task_tokens(task)?;
    let of_task = model.prefill_capturing(&task, &mut cache, &read, heard)?.queries;
    let layers = cache.layers()?;
    let of_answer = model.prefill_capturing(answer, &mut cache, &read, heard)?.queries;
    let seen: Vec<LayerKv> = session.cache().layer_views(0, seq_len)?;
    let mut tensors = HashMap::from([("probe".to_owned(), model.probe()?)]);
    for (name, queries) in [("answer", of_answer), ("task", of_task)] {
        for (layer, observed) in Observed::all(&seen, &queries, ScoreAgg::Rms)?.iter().enumerate() {
            let scores = Tensor::new(observed.scores().to_vec(), &Device::Cpu)?;
            tensors.insert(format!("{name}.{layer}"), scores);
        }
    }
    for (layer, kv) in layers.into_iter().enumerate() {
        tensors.insert(format!("keys.{layer}"), kv.keys.to_dtype(DType::F16)?);
        tensors.insert(format!("values.{layer}"), kv.values.to_dtype(DType::F16)?);
    }
    safetensors::save(&tensors, path)?;
    Ok(task.len())
}
