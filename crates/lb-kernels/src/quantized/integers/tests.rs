//! Against sums in f64 over what the twin unpacks.

use super::super::{QuantFormat, QuantizedSlice};
use super::Integers;
use crate::{FloatSlice, Weight, gemm};

const KINDS: [QuantFormat; 8] = [
    QuantFormat::Q4_0,
    QuantFormat::Q4_1,
    QuantFormat::Q5_0,
    QuantFormat::Q5_1,
    QuantFormat::Q8_0,
    QuantFormat::Q4K,
    QuantFormat::Q5K,
    QuantFormat::Q6K,
];

/// Blocks of arbitrary bits, with scales that are numbers.
fn blocks(kind: QuantFormat, numbers: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes: Vec<u8> = (0..numbers / kind.numbers() * kind.bytes())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    // Where the halves of a block stand; their exponents are kept small.
    let halves: &[usize] = match kind {
        QuantFormat::Q4_0 | QuantFormat::Q5_0 | QuantFormat::Q8_0 => &[1],
        QuantFormat::Q6K => &[209],
        _ => &[1, 3],
    };
    for block in bytes.chunks_exact_mut(kind.bytes()) {
        for half in halves {
            block[*half] = block[*half] & 0x83 | 0x2c;
        }
    }
    bytes
}

/// Activations that have a scale in common.
const SCALED: usize = 32;

/// Activations of many sizes: one of each 32 is a thousand times the others.
fn activations(count: usize) -> Vec<f32> {
    let size = |at: usize| if at % SCALED == 7 { 300.0 } else { 0.3 };
    (0..count).map(|at| size(at) * (at as f32 * 0.77).sin()).collect()
}

/// Against sums in f64 of the numbers that the twin unpacks, and to the bit the same in any company.
#[test]
fn integers_lose_nothing() {
    for kind in KINDS {
        let (rows, columns, tokens) = (5, 512, 9);
        let bytes = blocks(kind, rows * columns, 3);
        let weight = QuantizedSlice::new(kind, &bytes).unwrap();
        let Some(integers) = Integers::detect(kind, columns) else { return };
        let x = activations(tokens * columns);
        let mut found = vec![0f32; rows * tokens];
        integers.gemv(&integers.round(&x, columns, kind), weight, &mut found);
        let mut numbers = vec![0f32; rows * columns];
        weight.to_f32(&mut numbers);
        for (row, found) in numbers.chunks_exact(columns).zip(found.chunks_exact(tokens)) {
            for (x, found) in x.chunks_exact(columns).zip(found) {
                let terms = || row.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b));
                let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let far = (f64::from(*found) - sum).abs() / size;
                assert!(far < 2e-6, "{kind:?}: {far:e}");
            }
        }
        let mut alone = vec![0f32; rows];
        integers.gemv(&integers.round(&x[4 * columns..5 * columns], columns, kind), weight, &mut alone);
        let together: Vec<f32> = found.chunks_exact(tokens).map(|row| row[4]).collect();
        assert_eq!(alone, together, "{kind:?}");
    }
}

/// What is no number stays none, in its own row alone.
#[test]
fn what_is_not_finite_is_not_hidden() {
    let (kind, columns) = (QuantFormat::Q8_0, 128);
    let bytes = blocks(kind, columns, 5);
    let weight = QuantizedSlice::new(kind, &bytes).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = activations(2 * columns);
        x[40] = bad;
        let mut out = [0f32; 2];
        gemm(&x, Weight::Quantized(weight), columns, false, &mut out);
        assert!(!out[0].is_finite() && out[1].is_finite(), "{bad}: {out:?}");
    }
    let zeros = vec![0f32; columns];
    let mut out = [1f32];
    gemm(&zeros, Weight::Quantized(weight), columns, false, &mut out);
    assert!(out[0].abs() < f32::MIN_POSITIVE, "{out:?}");
}

/// Rows that are no whole number of steps take the twin.
#[test]
fn other_widths_are_the_twins() {
    let (kind, columns) = (QuantFormat::Q4_1, 96);
    assert!(Integers::detect(kind, columns).is_none());
    let bytes = blocks(kind, columns, 7);
    let weight = QuantizedSlice::new(kind, &bytes).unwrap();
    let x = activations(columns);
    let mut numbers = vec![0f32; columns];
    weight.to_f32(&mut numbers);
    let (mut blocks, mut plain) = ([0f32], [0f32]);
    gemm(&x, Weight::Quantized(weight), columns, false, &mut blocks);
    gemm(&x, FloatSlice::F32(&numbers).into(), columns, false, &mut plain);
    assert!((blocks[0] - plain[0]).abs() <= 1e-4 * plain[0].abs().max(1.0), "{blocks:?} {plain:?}");
}
