//! Compactions of random caches of Qwen3's sizes: one shared mask and one mask a head, all heads together, and the original
//! order of one head after another as the baseline.
//!
//! `cargo bench -p lb-perf --bench compaction` runs a few points. With `COMPACTION_GRID=full` it knows them all, from 1k to 64k
//! positions, also with the AM reference's least squares in the baseline, and `-- FILTER` behind it runs those whose name has
//! `FILTER` in it, such as `qwen3-4b/f32/65536`. Caches are of [`LAYERS`] layer; each one costs the same. The group
//! `fits/rows` fits the same kept slots to more and more queries: what a row costs is to stay the same.

use std::cell::OnceCell;

use candle_core::{DType, Device};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use latent_briefing::am::{Compaction, Selection, ValuesMethod, compact};
use lb_perf::{Scene, SceneConfig, SerialFit, Shape, compact_serially};

/// Layers of each cache.
const LAYERS: usize = 1;

/// What one point of the grid is.
struct Point {
    scene: SceneConfig,
    keep_ratio: f64,
}

fn point(shape: Shape, dtype: DType, seq_len: usize, task_tokens: usize, keep_ratio: f64) -> Point {
    let scene = SceneConfig { shape, layers: LAYERS, seq_len, task_tokens, dtype, seed: 1 };
    Point { scene, keep_ratio }
}

/// A few minutes: every shape, length, dtype and ratio once.
fn some() -> Vec<Point> {
    vec![
        point(Shape::qwen3_0_6b(), DType::F32, 1024, 32, 0.1),
        point(Shape::qwen3_0_6b(), DType::F32, 4096, 32, 0.1),
        point(Shape::qwen3_0_6b(), DType::F32, 16_384, 32, 0.1),
        point(Shape::qwen3_0_6b(), DType::BF16, 65_536, 32, 0.1),
        point(Shape::qwen3_4b(), DType::BF16, 4096, 128, 0.3),
        point(Shape::qwen3_14b(), DType::F32, 16_384, 32, 0.1),
        point(Shape::qwen3_14b(), DType::BF16, 16_384, 32, 0.1),
    ]
}

fn all() -> Vec<Point> {
    let mut points = Vec::new();
    for shape in [Shape::qwen3_0_6b(), Shape::qwen3_4b(), Shape::qwen3_14b()] {
        for dtype in [DType::F32, DType::BF16] {
            for seq_len in [1024, 2048, 4096, 8192, 16_384, 32_768, 65_536] {
                for task_tokens in [32, 128] {
                    for ratio in [0.1, 0.3] {
                        points.push(point(shape.clone(), dtype, seq_len, task_tokens, ratio));
                    }
                }
            }
        }
    }
    points
}

fn compactions(c: &mut Criterion) {
    let full = std::env::var("COMPACTION_GRID").is_ok_and(|grid| grid == "full");
    for Point { scene: config, keep_ratio } in if full { all() } else { some() } {
        let SceneConfig { shape, dtype, seq_len, task_tokens, .. } = &config;
        let name = format!("{shape}/{}/{seq_len}/{task_tokens}-tokens/{keep_ratio}", dtype.as_str());
        let mut group = c.benchmark_group(format!("compaction/{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        // Positions of all layers.
        group.throughput(Throughput::Elements((seq_len * config.layers) as u64));
        // Made when the first point that the filter lets through asks for it.
        let cell = OnceCell::new();
        let scene = || -> &Scene { cell.get_or_init(|| config.build(&Device::Cpu).expect("fits")) };
        for (order, selection) in [("shared", Selection::shared()), ("per-head", Selection::per_head())] {
            let settings = Compaction::keep_ratio(keep_ratio).with_selection(selection);
            group.bench_function(order, |b| {
                let scene = scene();
                b.iter(|| compact(&scene.layers, &scene.queries, &settings).expect("compacts"));
            });
        }
        let fits = [("serial", SerialFit::Ridge), ("serial-lstsq", SerialFit::LeastSquares)];
        for (order, fit) in fits.into_iter().take(if full { 2 } else { 1 }) {
            group.bench_function(order, |b| {
                let Scene { layers, queries } = scene();
                b.iter(|| compact_serially(layers, queries, keep_ratio, fit).expect("compacts"));
            });
        }
        group.finish();
    }
}

/// Tokens of the task, from a short prompt to a context that is read again; a group of Qwen3 0.6B has two heads.
const TOKENS: [usize; 6] = [64, 256, 512, 1024, 2048, 4096];

fn fits(c: &mut Criterion) {
    let mut group = c.benchmark_group("fits/rows");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for task_tokens in TOKENS {
        let shape = Shape::qwen3_0_6b();
        let config =
            SceneConfig { shape, layers: LAYERS, seq_len: 4096, task_tokens, dtype: DType::F32, seed: 1 };
        group.throughput(Throughput::Elements(task_tokens as u64));
        let cell = OnceCell::new();
        let scene = || -> &Scene { cell.get_or_init(|| config.build(&Device::Cpu).expect("fits")) };
        let with = |values| Compaction::kept_len(400).with_values(values);
        for (name, settings) in [
            ("ridge", with(ValuesMethod::default())),
            ("least-squares", with(ValuesMethod::LeastSquares)),
            // What is left is what the fits have to come behind.
            ("selection", with(ValuesMethod::Copy).selection_only()),
        ] {
            group.bench_function(format!("{name}/{task_tokens}-tokens"), |b| {
                let scene = scene();
                b.iter(|| compact(&scene.layers, &scene.queries, &settings).expect("compacts"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, compactions, fits);
criterion_main!(benches);
