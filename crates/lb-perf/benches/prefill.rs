//! 512 tokens through four layers of Qwen3-0.6B's sizes with random weights: ours beside candle-transformers' `qwen3` on the
//! same file.
//!
//! `cargo bench -p lb-perf --bench prefill` with all threads, behind `RAYON_NUM_THREADS=1` with one.

mod support;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use latent_briefing::model::PrefillOptions;
use support::{DTYPES, candle, checkpoint, ours, step, tokens};

/// Tokens of the prompt.
const PROMPT: usize = 512;

fn prefill(c: &mut Criterion) {
    let prompt = tokens(PROMPT);
    for dtype in DTYPES {
        let checkpoint = checkpoint(dtype);
        let mut group = c.benchmark_group(format!("prefill/{}", dtype.as_str()));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(PROMPT as u64));
        let worker = ours(&checkpoint, dtype);
        group.bench_function("ours", |b| {
            let (model, options) = (worker.model(), PrefillOptions::default());
            b.iter_batched_ref(
                || model.new_cache(),
                |cache| model.prefill(&prompt, cache, &options, &mut |_, _| {}).expect("reads"),
                BatchSize::PerIteration,
            );
        });
        drop(worker);
        let mut model = candle(&checkpoint, dtype);
        group.bench_function("candle", |b| {
            b.iter(|| {
                model.clear_kv_cache();
                step(&mut model, &prompt, 0)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, prefill);
criterion_main!(benches);
