//! A trajectory read in segments of 100 tokens, beside the same tokens read in one piece, in turn.
//! `cargo bench -p lb-perf --bench segments [-- PART-OF-A-NAME]`
//!
//! With `LATENT_BRIEFING_REAL_MODELS` naming a folder, the GGUF files there are measured too.

#[allow(dead_code, reason = "other benches need the rest")]
mod support;

use std::time::Instant;

use latent_briefing::model::{PrefillOptions, Worker};
use support::cases::{cases, median};
use support::tokens;

/// Rounds of both, whose medians are shown.
const ROUNDS: usize = 5;
/// Tokens of the trajectory.
const LENGTH: usize = 1500;
/// Tokens of a segment.
const SEGMENT: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = args.iter().find(|arg| !arg.starts_with("--"));
    println!("{:<44}{:>12}{:>12}{:>8}", "tokens/s", "one piece", "segments", "ratio");
    for (name, load) in cases() {
        if wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            match load() {
                Ok(worker) => measure(&name, &worker),
                Err(error) => println!("{name}: {error}"),
            }
        }
    }
}

fn measure(name: &str, worker: &Worker) {
    let trajectory = tokens(LENGTH);
    let [mut whole, mut segments] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        whole.push(read(worker, &trajectory, LENGTH));
        segments.push(read(worker, &trajectory, SEGMENT));
    }
    let (whole, segments) = (median(whole), median(segments));
    println!("{name:<44}{whole:>12.1}{segments:>12.1}{:>7.0}%", 100.0 * segments / whole);
}

/// Tokens a second, `piece` at a time, as a session reads its segments.
fn read(worker: &Worker, trajectory: &[u32], piece: usize) -> f64 {
    let (mut cache, options) = (worker.model().new_cache(), PrefillOptions::default());
    let begin = Instant::now();
    for tokens in trajectory.chunks(piece) {
        worker
            .model()
            .read_batch_while(&[tokens], &mut [&mut cache], &options, &mut |_, _| true)
            .expect("reads");
    }
    trajectory.len() as f64 / begin.elapsed().as_secs_f64()
}
