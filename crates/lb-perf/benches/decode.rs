//! One token behind 4,096 positions, through four layers of Qwen3-0.6B's sizes with random weights: over the full cache and
//! over a briefing of a tenth of it, beside candle-transformers' `qwen3` over its full cache.
//!
//! `cargo bench -p lb-perf --bench decode` with all threads, behind `RAYON_NUM_THREADS=1` with one. Ours forgets the token after
//! each iteration; candle's cache cannot, and grows by the few hundred tokens of the measurement.

mod support;

use std::cell::{Cell, OnceCell, RefCell};

use candle_core::{DType, Device};
use candle_transformers::models::qwen3::ModelForCausalLM;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use latent_briefing::am::{Compaction, compact};
use latent_briefing::model::{KvCache, Worker};
use lb_perf::{RandomCheckpoint, SceneConfig};
use support::{DTYPES, LAYERS, candle, checkpoint, ours, shape, step, tokens};

/// Positions in the cache.
const SEQ_LEN: usize = 4096;
/// Tokens at a time while candle's cache is filled.
const CHUNK: usize = 512;

/// A full cache of random keys and values, and a briefing of it.
fn caches(worker: &Worker, dtype: DType) -> [(&'static str, KvCache); 2] {
    let scene =
        SceneConfig { shape: shape(), layers: LAYERS, seq_len: SEQ_LEN, task_tokens: 32, dtype, seed: 1 };
    let scene = scene.build(&Device::Cpu).expect("fits");
    let mut full = worker.model().new_cache();
    full.append_layers(&scene.layers, SEQ_LEN).expect("the model's shape");
    let compacted = compact(&scene.layers, &scene.queries, &Compaction::keep_ratio(0.1)).expect("compacts");
    let brief =
        KvCache::from_compacted(&compacted, SEQ_LEN, worker.model().config()).expect("the model's shape");
    [("full", full), ("briefing", brief)]
}

/// candle's model with the positions in its cache.
fn filled(checkpoint: &RandomCheckpoint, dtype: DType) -> ModelForCausalLM {
    let mut model = candle(checkpoint, dtype);
    for (index, chunk) in tokens(SEQ_LEN).chunks(CHUNK).enumerate() {
        step(&mut model, chunk, index * CHUNK);
    }
    model
}

fn decode(c: &mut Criterion) {
    for dtype in DTYPES {
        let checkpoint = checkpoint(dtype);
        let mut group = c.benchmark_group(format!("decode/{}", dtype.as_str()));
        group.sample_size(20);
        group.throughput(Throughput::Elements(1));
        let worker = ours(&checkpoint, dtype);
        for (name, mut cache) in caches(&worker, dtype) {
            group.bench_function(format!("ours-{name}"), |b| {
                b.iter(|| {
                    let logits = worker.model().forward(&[7], &mut cache).expect("reads");
                    cache.truncate(SEQ_LEN).expect("the token's own slot");
                    logits
                });
            });
        }
        drop(worker);
        // Criterion calls the closure once a sample; the cache is filled once, if at all.
        let cell = OnceCell::new();
        let position = Cell::new(SEQ_LEN);
        group.bench_function("candle-full", |b| {
            let model = cell.get_or_init(|| RefCell::new(filled(&checkpoint, dtype)));
            b.iter(|| {
                let at = position.replace(position.get() + 1);
                step(&mut model.borrow_mut(), &[7], at)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
