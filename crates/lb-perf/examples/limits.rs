//! What this machine can do at most, beside what one decoded token and a long input come to: bytes a second, and products a second by
//! type of number.
//!
//! `cargo run --release -p lb-perf --example limits`
//!
//! All threads, the best of half a second each. Sums of a large buffer are the memory's speed; a product of one row with a large
//! matrix is what decoding does; products of square matrices that fit the caches are what reading does.

use std::time::{Duration, Instant};

use half::bf16;
use latent_briefing::candle::{DType, Device};
use lb_cli::say;
use lb_kernels::{FloatSlice, QuantFormat, QuantizedSlice, Weight, gemm};
use lb_perf::Peak;
use rayon::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Bytes of what is read from memory: many times what caches hold.
const LARGE: usize = 512 << 20;
/// Numbers of a row, a whole number of all blocks.
const COLUMNS: usize = 4096;
/// For each figure.
const TIME: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    say!("{} threads", rayon::current_num_threads());
    let numbers: Vec<f32> = (0..LARGE / 4).into_par_iter().map(|i| (i % 977) as f32 * 1e-3).collect();
    let mut total = 0.0;
    let sum = best(|| total += numbers.par_chunks(1 << 18).map(lanes).sum::<f32>());
    std::hint::black_box(total);
    say!("{:<44}{:>10.1} GB/s", "a buffer of 512 MiB, summed", gigabytes(LARGE, sum));

    let x: Vec<f32> = numbers[..COLUMNS].to_vec();
    let narrow: Vec<bf16> = numbers.iter().map(|x| bf16::from_f32(*x)).collect();
    one_row("one row, bf16", &x, FloatSlice::Bf16(&narrow).into(), 2 * narrow.len());
    one_row("one row, f32", &x, FloatSlice::F32(&numbers).into(), LARGE);
    // Whatever the bytes say: small scales, and no infinity among them.
    let bytes: Vec<u8> = (0..LARGE / 2).map(|i| (i % 59) as u8).collect();
    for (name, kind) in [
        ("q4_0", QuantFormat::Q4_0),
        ("q4_1", QuantFormat::Q4_1),
        ("q5_0", QuantFormat::Q5_0),
        ("q8_0", QuantFormat::Q8_0),
        ("q4_k", QuantFormat::Q4K),
        ("q6_k", QuantFormat::Q6K),
    ] {
        let row = COLUMNS / kind.numbers() * kind.bytes();
        let bytes = &bytes[..bytes.len() / row * row];
        let blocks = QuantizedSlice::new(kind, bytes).ok_or("no whole blocks")?;
        one_row(&format!("one row, {name}"), &x, Weight::Quantized(blocks), bytes.len());
    }
    for dtype in [DType::F32, DType::BF16] {
        for peak in [Peak::kernel(dtype)?, Peak::candle(dtype, &Device::Cpu)?] {
            let name = format!("square products, {}, {}", peak.dtype, peak.by);
            say!("{name:<44}{:>10.0} GFLOP/s", peak.gflops);
        }
    }
    Ok(())
}

fn one_row(name: &str, x: &[f32], weight: Weight<'_>, bytes: usize) {
    let rows = match weight {
        Weight::Dense(dense) => dense.len(),
        Weight::Quantized(blocks) => blocks.len(),
    } / COLUMNS;
    let mut out = vec![0.0; rows];
    let time = best(|| gemm(x, weight, COLUMNS, false, &mut out));
    say!("{name:<44}{:>10.1} GB/s", gigabytes(bytes, time));
}

/// Sixteen sums, so that none waits for another.
fn lanes(part: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for line in part.as_chunks::<16>().0 {
        sums.iter_mut().zip(line).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().sum()
}

fn best(mut step: impl FnMut()) -> Duration {
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < TIME {
        let started = Instant::now();
        step();
        best = best.min(started.elapsed());
    }
    best
}

fn gigabytes(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}
