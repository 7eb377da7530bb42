//! One token behind 4,096 positions, through four layers of Qwen3-0.6B's sizes with random weights: over the full cache and over
//! a briefing of a tenth of it, in bf16 and in 8, 4 and 2 bits; and what packing the full cache takes.
//!
//! `cargo bench -p lb-perf --bench packed` with all threads, behind `RAYON_NUM_THREADS=1` with one. The names have the bytes of
//! each cache.

#[allow(dead_code, reason = "candle has nothing to compare here")]
mod support;

use candle_core::{DType, Device};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use latent_briefing::am::{Compaction, Compactor, PackedBits};
use latent_briefing::model::{KvCache, Worker};
use lb_perf::{Scene, SceneConfig};
use support::{LAYERS, checkpoint, ours, shape};

/// Positions in the cache.
const SEQ_LEN: usize = 4096;

const BITS: [Option<PackedBits>; 4] =
    [None, Some(PackedBits::Eight), Some(PackedBits::Four), Some(PackedBits::Two)];

fn scene() -> Scene {
    let (layers, dtype) = (LAYERS, DType::BF16);
    let config = SceneConfig { shape: shape(), layers, seq_len: SEQ_LEN, task_tokens: 32, dtype, seed: 1 };
    config.build(&Device::Cpu).expect("fits")
}

fn full(worker: &Worker, scene: &Scene) -> KvCache {
    let mut full = KvCache::new(worker.config(), DType::BF16, &Device::Cpu);
    full.append_layers(&scene.layers, SEQ_LEN).expect("the model's shape");
    full
}

fn briefing(worker: &Worker, scene: &Scene, bits: Option<PackedBits>) -> KvCache {
    let config = Compaction::keep_ratio(0.1);
    let compactor = Compactor::new(&scene.layers, &scene.queries, &config).packed(bits);
    let compacted = compactor.run().expect("compacts");
    KvCache::from_compacted(&compacted, SEQ_LEN, worker.config()).expect("the model's shape")
}

fn packed(c: &mut Criterion) {
    let checkpoint = checkpoint(DType::BF16);
    let (worker, scene) = (ours(&checkpoint, DType::BF16), scene());
    let whole = full(&worker, &scene);
    let mut group = c.benchmark_group("packed");
    group.sample_size(20);
    for bits in BITS {
        group.throughput(Throughput::Elements(1));
        let full = bits.map_or_else(|| whole.fork(), |bits| whole.packed(bits).expect("packs"));
        for (name, mut cache) in [("full", full), ("briefing", briefing(&worker, &scene, bits))] {
            let (count, bytes) = (bits.map_or(16, PackedBits::count), cache.bytes());
            group.bench_function(format!("{name}-{count}-bits-{bytes}-bytes"), |b| {
                b.iter(|| {
                    let logits = worker.model().forward(&[7], &mut cache).expect("reads");
                    cache.truncate(SEQ_LEN).expect("the token's own slot");
                    logits
                });
            });
        }
    }
    for bits in PackedBits::ALL {
        group.throughput(Throughput::Bytes(whole.bytes() as u64));
        group.bench_function(format!("packing-{}-bits", bits.count()), |b| {
            b.iter_batched(|| (), |()| whole.packed(bits).expect("packs"), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, packed);
criterion_main!(benches);
