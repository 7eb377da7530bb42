//! Answers that quote their text: tokens a second with guesses from the trajectory and without, over the full cache and over briefings.
//!
//! `cargo run --release -p lb-perf --example quoting -- --data FILE.jsonl --worker MODEL`
//!
//! Each task is answered both ways, one after the other, the first of the two in turn. The same answer must come out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use latent_briefing::candle::{DType, Device};
use latent_briefing::model::{Checkpoint, GenerateOptions, Worker};
use latent_briefing::prelude::{Handoff, SessionConfig, WorkerSession};
use lb_cli::say;
use lb_eval::logs::{self, LogItem};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Arguments {
    /// Recorded logs.
    #[arg(long)]
    data: PathBuf,
    /// A checkpoint's folder or file.
    #[arg(long)]
    worker: PathBuf,
    /// Of the weights.
    #[arg(long)]
    dtype: Option<DType>,
    /// What the worker is given; several with semicolons.
    #[arg(long, value_delimiter = ';', default_value = "full-kv;latent-briefing:keep=0.1")]
    handoff: Vec<String>,
    /// Items.
    #[arg(long)]
    limit: Option<usize>,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
}

/// Of all answers through one handoff.
#[derive(Clone, Copy, Default)]
struct Sums {
    tokens: usize,
    brief: Duration,
    decode: Duration,
}

impl Sums {
    fn rate(&self) -> f64 {
        self.tokens as f64 / self.decode.as_secs_f64()
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let worker = Checkpoint::open(&arguments.worker)?.load(&Device::Cpu, arguments.dtype)?;
    let handoffs: Vec<Handoff> =
        arguments.handoff.iter().map(|text| text.parse()).collect::<std::result::Result<_, _>>()?;
    let options = logs::LoadOptions { limit: arguments.limit, ..logs::LoadOptions::default() };
    let loaded = logs::load(&arguments.data, &options)?;
    let mut sums = vec![[Sums::default(); 2]; handoffs.len()];
    let (mut reading, mut differ) = (Duration::ZERO, 0);
    for (number, item) in loaded.items.iter().enumerate() {
        let begin = Instant::now();
        let mut sessions = [
            session(&worker, item, false, arguments.tokens)?,
            session(&worker, item, true, arguments.tokens)?,
        ];
        reading += begin.elapsed() / 2;
        for (handoff, sums) in handoffs.iter().zip(&mut sums) {
            let mut answers = [const { String::new() }; 2];
            for which in [number % 2, 1 - number % 2] {
                let outcome = sessions[which].ask(item.task.as_str()).via(handoff.clone()).run()?;
                let sums = &mut sums[which];
                // The token that ends an answer is a pass as well.
                sums.tokens += outcome.record.tokens.generated + 1;
                sums.brief += outcome.record.times.brief;
                sums.decode += outcome.record.times.decode;
                answers[which] = outcome.answer.text;
            }
            differ += usize::from(answers[0] != answers[1]);
        }
        say!(
            "{} items, {:.1} s of reading an item, {differ} answers differ",
            number + 1,
            reading.as_secs_f64() / (number + 1) as f64
        );
        for (handoff, [without, with]) in arguments.handoff.iter().zip(&sums) {
            say!(
                "    {handoff}: {:.1} tokens/s without, {:.1} with guesses ({:.2}); brief {:.2} s, {:.2} s ({:.2})",
                without.rate(),
                with.rate(),
                with.rate() / without.rate(),
                without.brief.as_secs_f64() / (number + 1) as f64,
                with.brief.as_secs_f64() / (number + 1) as f64,
                with.brief.as_secs_f64() / without.brief.as_secs_f64(),
            );
        }
    }
    Ok(())
}

fn session(worker: &Worker, item: &LogItem, lookup: bool, tokens: usize) -> Result<WorkerSession> {
    let generate = GenerateOptions::greedy(tokens);
    let mut session =
        WorkerSession::with(worker, SessionConfig { generate, lookup, ..SessionConfig::default() })?;
    session.extend_all(item.trajectory.clone(), &mut |_, _| {})?;
    Ok(session)
}
