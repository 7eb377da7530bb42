//! Prefill and decoding alone and beside as many busy loops as the machine has cores, in turn, and what is left of the speed.
//! A fair scheduler leaves half of it. `cargo bench -p lb-perf --bench contended [-- PART-OF-A-NAME]`
//!
//! The loops are processes of their own that this program starts and ends. Files are made for the occasion; with
//! `LATENT_BRIEFING_REAL_MODELS` naming a folder, the GGUF files there are measured too. A machine that others use at the same
//! time is never alone: what is called so here is then contended as well, and the share that is left looks better than it is.

#[allow(dead_code, reason = "other benches need the rest")]
mod support;

use std::hint::black_box;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use latent_briefing::model::{PrefillOptions, Worker};
use support::cases::{cases, median};
use support::tokens;

/// Rounds of both, whose medians are shown.
const ROUNDS: usize = 5;
/// How long one figure is measured.
const SPAN: Duration = Duration::from_millis(1500);
/// Tokens of the prompt.
const PROMPT: usize = 256;
/// A loop that was left behind ends by itself.
const LONGEST: Duration = Duration::from_mins(1);
/// What the program calls itself with.
const SPIN: &str = "--spin";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == SPIN) {
        return spin();
    }
    let wanted = args.iter().find(|arg| !arg.starts_with("--"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{:<44}{:>12}{:>12}{:>8}   {cores} busy loops", "tokens/s", "alone", "beside", "left");
    for (name, load) in cases() {
        if wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            match load() {
                Ok(worker) => measure(&name, &worker, cores),
                Err(error) => println!("{name}: {error}"),
            }
        }
    }
}

fn spin() {
    let begin = Instant::now();
    let mut number = 0u64;
    while begin.elapsed() < LONGEST {
        for _ in 0..1 << 20 {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Busy loops, until they are dropped.
struct Loops(Vec<Child>);

impl Loops {
    fn start(count: usize) -> Self {
        let own = std::env::current_exe().expect("this program has a path");
        let start = |_| Command::new(&own).arg(SPIN).spawn().expect("this program starts");
        Self((0..count).map(start).collect())
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn measure(name: &str, worker: &Worker, cores: usize) {
    let mut rates = [const { [const { Vec::new() }; 2] }; 2];
    for _ in 0..ROUNDS {
        for (beside, rates) in rates.iter_mut().enumerate() {
            let _loops = Loops::start(beside * cores);
            for (rates, rate) in rates.iter_mut().zip([prefill(worker), decode(worker)]) {
                rates.push(rate);
            }
        }
    }
    let [alone, beside] = rates.map(|rates| rates.map(median));
    for (what, (alone, beside)) in ["prefill", "decoding"].iter().zip(alone.iter().zip(beside)) {
        let name = format!("{name}, {what}");
        println!("{name:<44}{alone:>12.1}{beside:>12.1}{:>7.0}%", 100.0 * beside / alone);
    }
    if spinning_pool() {
        println!("{:<44}candle's pool, which waits by spinning, was used", "");
    }
}

/// Whether candle has started threads of its own, on Linux.
fn spinning_pool() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .any(|name| name.starts_with("candle-bp"))
}

/// Tokens a second of a prompt, read as often as there is time for.
fn prefill(worker: &Worker) -> f64 {
    let (prompt, begin) = (tokens(PROMPT), Instant::now());
    let mut read = 0;
    while read == 0 || begin.elapsed() < SPAN {
        let mut cache = worker.model().new_cache();
        let options = PrefillOptions::default();
        worker.model().prefill(&prompt, &mut cache, &options, &mut |_, _| {}).expect("reads");
        read += PROMPT;
    }
    read as f64 / begin.elapsed().as_secs_f64()
}

/// Tokens a second behind a short prompt.
fn decode(worker: &Worker) -> f64 {
    let mut cache = worker.model().new_cache();
    worker.model().forward(&tokens(16), &mut cache).expect("reads");
    let begin = Instant::now();
    let mut made = 0;
    while made == 0 || begin.elapsed() < SPAN {
        worker.model().forward(&[7], &mut cache).expect("reads");
        cache.truncate(16).expect("the token's own slot");
        made += 1;
    }
    f64::from(made) / begin.elapsed().as_secs_f64()
}
