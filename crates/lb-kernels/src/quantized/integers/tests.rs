//! Against sums in f64 over what the twin unpacks.

use super::super::{QuantFormat, QuantizedSlice};
use super::Integers;
use crate::{Weight, gemm};

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
pub(in super::super) fn blocks(kind: QuantFormat, numbers: usize, seed: u64) -> Vec<u8> {
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
        QuantFormat::Q3K => &[109],
        QuantFormat::Q2K => &[81, 83],
        _ => &[1, 3],
    };
    for block in bytes.chunks_exact_mut(kind.bytes()) {
        for half in halves {
            block[*half] = block[*half] & 0x83 | 0x2c;
        }
    }
    bytes
}

/// Of the sum of magnitudes: what a sum may be off.
const FAR: f64 = 2e-6;

/// Activations that have a scale in common.
const SCALED: usize = 32;

/// Activations, one of each 32 so many times the others.
fn activations(count: usize, times: f32) -> Vec<f32> {
    let size = |at: usize| if at % SCALED == 7 { 0.3 * times } else { 0.3 };
    (0..count).map(|at| size(at) * (at as f32 * 0.77).sin()).collect()
}

/// Against sums in f64 of the numbers that the twin unpacks, and to the bit the same in any company.
fn check(kind: QuantFormat, columns: usize, times: f32) {
    let (rows, tokens) = (5, 15);
    let bytes = blocks(kind, rows * columns, 3);
    let weight = QuantizedSlice::new(kind, &bytes).unwrap();
    let x = activations(tokens * columns, times);
    let mut found = vec![0f32; rows * tokens];
    let mut numbers = vec![0f32; rows * columns];
    weight.to_f32(&mut numbers);
    for integers in Integers::every() {
        integers.gemv(&integers.round(&x, columns, kind), weight, columns, &mut found);
        for (row, found) in numbers.chunks_exact(columns).zip(found.chunks_exact(tokens)) {
            for (x, found) in x.chunks_exact(columns).zip(found) {
                let terms = || row.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b));
                let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let far = (f64::from(*found) - sum).abs() / size;
                assert!(far < FAR, "{integers:?}, {kind:?}, {columns} columns: {far:e}");
            }
        }
        for (token, x) in x.chunks_exact(columns).enumerate() {
            let mut alone = vec![0f32; rows];
            integers.gemv(&integers.round(x, columns, kind), weight, columns, &mut alone);
            let together: Vec<f32> = found.chunks_exact(tokens).map(|row| row[token]).collect();
            assert_eq!(alone, together, "{integers:?}, {kind:?}, {columns} columns, row {token}");
        }
    }
}

#[test]
fn integers_lose_nothing() {
    for kind in KINDS {
        check(kind, 512, 1000.0);
    }
}

/// Rows whose blocks do not fill the last step; in so short ones a large activation may meet nothing but a zero.
#[test]
fn widths_need_not_be_whole_steps() {
    for kind in KINDS {
        for blocks in [1, 3, 6, 17] {
            check(kind, blocks * kind.numbers(), 1.0);
        }
    }
}

/// What is no number stays none, in its own row alone; zeros are zero.
#[test]
fn what_is_not_finite_is_not_hidden() {
    for kind in KINDS {
        let columns = 3 * kind.numbers();
        let bytes = blocks(kind, columns, 5);
        let weight = QuantizedSlice::new(kind, &bytes).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 40, columns - 1] {
                let mut x = activations(2 * columns, 1000.0);
                x[at] = bad;
                let mut out = [0f32; 2];
                gemm(&x, Weight::Quantized(weight), columns, false, &mut out);
                assert!(!out[0].is_finite() && out[1].is_finite(), "{kind:?}, {bad}: {out:?}");
                for integers in Integers::every() {
                    integers.gemv(&integers.round(&x, columns, kind), weight, columns, &mut out);
                    assert!(
                        !out[0].is_finite() && out[1].is_finite(),
                        "{integers:?}, {kind:?}, {bad}: {out:?}"
                    );
                }
            }
        }
        let mut out = [1f32];
        gemm(&vec![0f32; columns], Weight::Quantized(weight), columns, false, &mut out);
        assert!(out[0].abs() < f32::MIN_POSITIVE, "{kind:?}: {out:?}");
    }
}
