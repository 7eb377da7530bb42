//! One kernel, a few times over, for tools that count instructions: `one_step KERNEL ROWS TIMES`.
//!
//! Kernels are products with a weight of 128 × 512 numbers (`q4_0`, …, `q6_k`, `f32`, `bf16`, and `round`, bf16 with activations rounded) and
//! attention over 512 slots of 128 numbers (`attention_f32`, `attention_bf16`); rows are those of activations, or queries.

use std::process::ExitCode;

use half::bf16;
use lb_kernels::{
    AttentionInput, FloatSlice, KvSlice, QuantFormat, QuantizedSlice, Scratch, Weight, attend, gemm,
};

const ROWS: usize = 128;
const COLUMNS: usize = 512;
const SLOTS: usize = 512;
const HEAD_DIM: usize = 128;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, rows, times] = &arguments[..] else { return usage() };
    let (Ok(rows), Ok(times)) = (rows.parse::<usize>(), times.parse::<usize>()) else { return usage() };
    if run(kernel, rows.clamp(1, 512), times).is_some() { ExitCode::SUCCESS } else { usage() }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: one_step q4_0|q4_1|q5_0|q5_1|q8_0|q4_k|q5_k|q6_k|f32|bf16|round|attention_f32|attention_bf16 ROWS TIMES"
    );
    ExitCode::FAILURE
}

/// `None` where there is no such kernel.
fn run(kernel: &str, rows: usize, times: usize) -> Option<()> {
    let kind = match kernel {
        "q4_0" => Some(QuantFormat::Q4_0),
        "q4_1" => Some(QuantFormat::Q4_1),
        "q5_0" => Some(QuantFormat::Q5_0),
        "q5_1" => Some(QuantFormat::Q5_1),
        "q8_0" => Some(QuantFormat::Q8_0),
        "q4_k" => Some(QuantFormat::Q4K),
        "q5_k" => Some(QuantFormat::Q5K),
        "q6_k" => Some(QuantFormat::Q6K),
        _ => None,
    };
    if let Some(kind) = kind {
        // Whatever the bytes say: small scales, and no infinity among them.
        let bytes: Vec<u8> =
            (0..ROWS * COLUMNS / kind.numbers() * kind.bytes()).map(|i| (i % 59) as u8).collect();
        multiply(Weight::Quantized(QuantizedSlice::new(kind, &bytes)?), rows, false, times);
        return Some(());
    }
    let wide = numbers(ROWS * COLUMNS);
    let narrow: Vec<bf16> = wide.iter().map(|x| bf16::from_f32(*x)).collect();
    match kernel {
        "f32" => multiply(FloatSlice::F32(&wide).into(), rows, false, times),
        "bf16" => multiply(FloatSlice::Bf16(&narrow).into(), rows, false, times),
        "round" => multiply(FloatSlice::Bf16(&narrow).into(), rows, true, times),
        "attention_f32" => decode(FloatSlice::F32(&wide), rows, times),
        "attention_bf16" => decode(FloatSlice::Bf16(&narrow), rows, times),
        _ => return None,
    }
    Some(())
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 977) as f32 * 1e-3 - 0.4).collect()
}

fn multiply(weight: Weight<'_>, rows: usize, round: bool, times: usize) {
    let (x, mut out) = (numbers(rows * COLUMNS), vec![0.0; rows * ROWS]);
    for _ in 0..times {
        gemm(&x, weight, COLUMNS, round, &mut out);
    }
    std::hint::black_box(&out);
}

fn decode(slots: FloatSlice<'_>, rows: usize, times: usize) {
    let slots = slots.range(0, SLOTS * HEAD_DIM);
    let chunks = [KvSlice { keys: slots.into(), values: slots.into(), bias: None }];
    let queries = numbers(rows.min(48) * HEAD_DIM);
    let input = AttentionInput {
        queries: &queries,
        head_dim: HEAD_DIM,
        scale: 0.1,
        chunks: &chunks,
        hidden: None,
        visible: None,
        allow_bf16: false,
        output: true,
        observe: None,
    };
    let (mut scratch, mut out) = (Scratch::default(), vec![0.0; queries.len()]);
    for _ in 0..times {
        attend(&input, &mut scratch, &mut out);
    }
    std::hint::black_box(&out);
}
