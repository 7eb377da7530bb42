//! NEON with dot products: sums of products of rows of blocks. Weights are signed bytes, less what their format subtracts.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use core::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, vaddq_f32, vaddvq_f32, vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s32,
    vfmaq_f32, vmulq_f32, vpaddq_f32, vpaddq_s32, vshlq_n_s32,
};
use core::arch::asm;

use super::super::{QuantFormat, QuantizedSlice};
use super::neon_blocks::{Blocks, SIDE_BY_SIDE, Unit, load_floats, load_signed};
use super::neon_k_quants::{Q4K, Q5K, Q6K};
use super::neon_legacy_quants::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use super::rounded::{MOST_BYTES, Rounded, Rows, Step};

/// Whether the machine has what is needed.
pub(super) fn detect() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Rows of activations against rows of blocks: `out` is `[rows, tokens]`. Each row of blocks is read from memory once.
///
/// # Safety
///
/// [`detect`] has found the features.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn gemv(x: &Rounded, weight: QuantizedSlice<'_>, columns: usize, out: &mut [f32]) {
    match weight.kind {
        QuantFormat::Q4_0 => all::<1, Q4_0>(x, weight, columns, out),
        QuantFormat::Q4_1 => all::<1, Q4_1>(x, weight, columns, out),
        QuantFormat::Q5_0 => all::<1, Q5_0>(x, weight, columns, out),
        QuantFormat::Q5_1 => all::<1, Q5_1>(x, weight, columns, out),
        QuantFormat::Q8_0 => all::<1, Q8_0>(x, weight, columns, out),
        QuantFormat::Q4K => all::<2, Q4K>(x, weight, columns, out),
        QuantFormat::Q5K => all::<2, Q5K>(x, weight, columns, out),
        QuantFormat::Q6K => all::<2, Q6K>(x, weight, columns, out),
        QuantFormat::Q2K | QuantFormat::Q3K => {}
    }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn all<const S: usize, B: Blocks<S>>(
    x: &Rounded,
    weight: QuantizedSlice<'_>,
    columns: usize,
    out: &mut [f32],
) {
    let row_bytes = columns / weight.kind.numbers() * weight.kind.bytes();
    for (row, out) in weight.bytes.chunks_exact(row_bytes).zip(out.chunks_exact_mut(x.tokens)) {
        let (fours, rest) = out.as_chunks_mut::<4>();
        let first = 4 * fours.len();
        for (four, out) in fours.iter_mut().enumerate() {
            *out = sums::<S, 4, B>(row, x.from(4 * four));
        }
        for (token, out) in rest.iter_mut().enumerate() {
            let [sum] = sums::<S, 1, B>(row, x.from(first + token));
            *out = sum;
        }
    }
}

/// Sums of a row of blocks for `T` rows of activations. The order in which a sum is made does not depend on how many there
/// are.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sums<const S: usize, const T: usize, B: Blocks<S>>(row: &[u8], x: Rows<'_>) -> [f32; T] {
    let zero = vdupq_n_f32(0.0);
    let (mut products, mut offsets) = ([zero; T], [zero; T]);
    // At the end of a row blocks of zeros fill a unit up, which meet zeros.
    let (whole, mut last) = (row.len() / B::BYTES, [0; MOST_BYTES]);
    if whole < x.units {
        let rest = &row[whole * B::BYTES..];
        last[..rest.len()].copy_from_slice(rest);
    }
    for index in 0..x.units {
        let bytes = if index < whole { &row[index * B::BYTES..] } else { &last };
        // SAFETY: the features are those of this function.
        let unit: Unit<S> = unsafe { B::read(&bytes[..B::BYTES]) };
        for token in 0..T {
            let factors = &x.factors[token * x.units + index].0;
            for four in 0..B::OFFSETS {
                let factors = load_floats(factors, 8 + 4 * four);
                offsets[token] = vfmaq_f32(offsets[token], unit.offsets[four], factors);
            }
        }
        add_step::<S, T, B, 0>(&unit, x, index, &mut products);
        if S == 2 {
            add_step::<S, T, B, 1>(&unit, x, index, &mut products);
        }
    }
    let mut sums = [0f32; T];
    for token in 0..T {
        sums[token] = vaddvq_f32(vaddq_f32(products[token], offsets[token]));
    }
    sums
}

/// Adds the products of a unit's step `P`: a function for each, as a loop over two of this size stays one, with its vectors in
/// memory.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_step<const S: usize, const T: usize, B: Blocks<S>, const P: usize>(
    unit: &Unit<S>,
    x: Rows<'_>,
    index: usize,
    products: &mut [float32x4_t; T],
) {
    for token in 0..T {
        let at = token * x.units + index;
        let whole = fold::<S, B>(eights(&unit.numbers[P], &x.steps[at * S + P], B::DIGIT));
        for table in 0..B::TABLES {
            let factors = load_floats(&x.factors[at].0, 4 * (B::TABLES * P + table));
            let scales = vmulq_f32(unit.scales[P][table], factors);
            products[token] = vfmaq_f32(products[token], whole[table], scales);
        }
    }
}

/// By lane, sums of the eight products of each part of a step.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn eights(numbers: &[[int8x16_t; SIDE_BY_SIDE]; 2], step: &Step, digit_bits: i32) -> [int32x4_t; 4] {
    let mut sums = [vdupq_n_s32(0); SIDE_BY_SIDE];
    for part in 0..SIDE_BY_SIDE {
        let sum = &mut sums[part];
        for (digit, x) in step.digits.iter().enumerate() {
            if digit > 0 {
                *sum = if digit_bits == 7 { vshlq_n_s32::<7>(*sum) } else { vshlq_n_s32::<8>(*sum) };
            }
            for vector in 0..2 {
                *sum = add_fours(*sum, numbers[vector][part], load_signed(&x[vector], 16 * part));
            }
        }
    }
    sums
}

/// Adds four products to each sum.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_fours(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is one of this function's features; it changes nothing but `sums`. The intrinsic of it is
    // unstable (rust-lang/rust#117224).
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// What has a scale in common becomes one number: of four parts, or of each half of four parts, by turns.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn fold<const S: usize, B: Blocks<S>>([a, b, c, d]: [int32x4_t; SIDE_BY_SIDE]) -> [float32x4_t; 2] {
    let wide = |a, b| vpaddq_f32(vcvtq_f32_s32(a), vcvtq_f32_s32(b));
    match (B::TABLES, B::TOGETHER) {
        (2, _) => [wide(a, b), wide(c, d)],
        (_, 4..) => [vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d))); 2],
        (_, 2..) => [wide(vpaddq_s32(a, b), vpaddq_s32(c, d)); 2],
        _ => [vpaddq_f32(wide(a, b), wide(c, d)); 2],
    }
}
