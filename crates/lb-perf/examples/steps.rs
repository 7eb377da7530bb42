//! One step of the built-in worker, to count its instructions: a pass over a prompt, some decoded tokens, a briefing.
//!
//! `cargo build --release -p lb-perf --example steps && RAYON_NUM_THREADS=1 valgrind --tool=callgrind target/release/examples/steps decode`
//!
//! What a step takes is its count less that of `load`, which all begin with. `.ci/instructions` runs all of them.

use latent_briefing::model::{KvCache, PrefillOptions, Worker};
use latent_briefing::prelude::{BriefConfig, Compaction, OpenSession, Segment};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Positions of the trajectory, and tokens that are decoded.
const PROMPT: usize = 256;
const DECODED: usize = 16;

fn main() -> Result<()> {
    let step = std::env::args().nth(1).unwrap_or_default();
    let worker = Worker::embedded()?;
    match step.as_str() {
        "load" => {}
        "prefill" => drop(read(&worker)?),
        "decode" => {
            let mut cache = read(&worker)?;
            for token in 0..DECODED as u32 {
                worker.model().forward(&[token], &mut cache)?;
            }
        }
        "session" => drop(session(&worker)?),
        "briefing" => drop(
            session(&worker)?
                .brief("Who keeps the ledger?", BriefConfig::from(Compaction::keep_ratio(0.1)))?,
        ),
        _ => return Err("want load, prefill, decode, session or briefing".into()),
    }
    Ok(())
}

fn read(worker: &Worker) -> Result<KvCache> {
    let mut cache = worker.model().new_cache();
    let tokens: Vec<u32> = (0..PROMPT as u32).map(|at| 10 + at * 7 % 200).collect();
    worker.model().prefill(&tokens, &mut cache, &PrefillOptions::default(), &mut |_, _| {})?;
    Ok(cache)
}

fn session(worker: &Worker) -> Result<latent_briefing::prelude::WorkerSession> {
    let mut session = worker.session()?;
    while session.seq_len() < PROMPT {
        session.extend(Segment::finding("The Oslo ledger is kept by Ana, and the vault by Tolio."))?;
    }
    Ok(session)
}
