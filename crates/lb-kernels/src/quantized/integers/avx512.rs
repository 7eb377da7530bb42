//! AVX-512 VNNI: sums of products of rows of blocks.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use core::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_add_ps, _mm512_mul_ps,
    _mm512_permutexvar_ps, _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_sub_epi32,
};

use super::super::{QuantFormat, QuantizedSlice};
use super::avx512_blocks::{Blocks, Unit};
use super::avx512_k_quants::{Q4K, Q5K, Q6K};
use super::avx512_legacy_quants::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use super::rounded::{AHEAD, MOST_BYTES, Rounded, Rows, Step};

/// Whether the machine has what is needed.
pub(super) fn detect() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
}

/// Rows of activations against rows of blocks: `out` is `[rows, tokens]`. Each row of blocks is read from memory once.
///
/// # Safety
///
/// [`detect`] has found the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
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

/// Two rows of blocks share what is loaded of the activations where there are several; one row of activations is met row by
/// row, as memory is read ahead best.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn all<const S: usize, B: Blocks<S>>(
    x: &Rounded,
    weight: QuantizedSlice<'_>,
    columns: usize,
    out: &mut [f32],
) {
    let (tokens, row_bytes) = (x.tokens, columns / weight.kind.numbers() * weight.kind.bytes());
    if tokens == 1 {
        return one_by_one::<S, B>(weight.bytes, row_bytes, x.from(0), out, 1);
    }
    for (rows, out) in weight.bytes.chunks(2 * row_bytes).zip(out.chunks_mut(2 * tokens)) {
        let (a, b) = rows.split_at(row_bytes);
        let mut first = 0;
        while !b.is_empty() && first + 1 < tokens {
            let (x, out) = (x.from(first), &mut out[first..]);
            first += match tokens - first {
                8.. => put(&sums::<S, 2, 8, B>([a, b], x), out, tokens),
                4.. => put(&sums::<S, 2, 4, B>([a, b], x), out, tokens),
                _ => put(&sums::<S, 2, 2, B>([a, b], x), out, tokens),
            };
        }
        for token in first..tokens {
            one_by_one::<S, B>(rows, row_bytes, x.from(token), &mut out[token..], tokens);
        }
    }
}

/// Rows of blocks for one row of activations, whose sums are `apart` from each other.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn one_by_one<const S: usize, B: Blocks<S>>(
    rows: &[u8],
    row_bytes: usize,
    x: Rows<'_>,
    out: &mut [f32],
    apart: usize,
) {
    for (row, out) in rows.chunks_exact(row_bytes).zip(out.iter_mut().step_by(apart)) {
        let [[sum]] = sums::<S, 1, 1, B>([row], x);
        *out = sum;
    }
}

/// Writes sums of rows of blocks to the first places of rows of `tokens` of them; returns how many.
fn put<const R: usize, const T: usize>(sums: &[[f32; T]; R], out: &mut [f32], tokens: usize) -> usize {
    for (sums, out) in sums.iter().zip(out.chunks_mut(tokens)) {
        out[..T].copy_from_slice(sums);
    }
    T
}

/// Sums of `R` rows of blocks for `T` rows of activations. The order in which a sum is made depends on neither.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn sums<const S: usize, const R: usize, const T: usize, B: Blocks<S>>(
    rows: [&[u8]; R],
    x: Rows<'_>,
) -> [[f32; T]; R] {
    let zero = _mm512_setzero_ps();
    // By lane. Where a format has offsets, they are among others.
    let (mut products, mut offsets) = ([[zero; T]; R], [[zero; T]; R]);
    let mut units = [Unit { numbers: [[_mm512_setzero_si512(); 2]; S], scales: zero }; R];
    // At the end of a row blocks of zeros fill a unit up, which meet zeros.
    let (whole, mut last) = (rows[0].len() / B::BYTES, [[0; MOST_BYTES]; R]);
    if whole < x.units {
        for row in 0..R {
            let rest = &rows[row][whole * B::BYTES..];
            last[row][..rest.len()].copy_from_slice(rest);
        }
    }
    for index in 0..x.units {
        for row in 0..R {
            let bytes = if index < whole { &rows[row][index * B::BYTES..] } else { &last[row] };
            for line in (0..B::BYTES).step_by(64) {
                // Asking for memory changes nothing, wherever it is.
                _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(AHEAD + line).cast());
            }
            // SAFETY: the features are those of this function.
            units[row] = unsafe { B::read(&bytes[..B::BYTES]) };
        }
        for token in 0..T {
            let at = token * x.units + index;
            // SAFETY: sixteen numbers are there.
            let factors = unsafe { _mm512_loadu_ps(x.factors[at].0.as_ptr()) };
            let mut scales = [factors; R];
            for row in 0..R {
                scales[row] = _mm512_mul_ps(units[row].scales, factors);
                if B::OFFSETS != 0 {
                    offsets[row][token] = _mm512_add_ps(offsets[row][token], scales[row]);
                }
            }
            let steps = &x.steps[at * S..][..S];
            for part in 0..S {
                let whole = eights::<S, R, B>(&units, part, &steps[part]);
                for row in 0..R {
                    let scales = _mm512_permutexvar_ps(load(&B::LANES[part]), scales[row]);
                    let sum = &mut products[row][token];
                    *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[row]), scales, *sum);
                }
            }
        }
    }
    let mut sums = [[0f32; T]; R];
    for row in 0..R {
        for token in 0..T {
            let products = products[row][token];
            let all = _mm512_mask_add_ps(products, B::OFFSETS, products, offsets[row][token]);
            sums[row][token] = _mm512_reduce_add_ps(all);
        }
    }
    sums
}

/// By lane, sums of the eight products of a step.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn eights<const S: usize, const R: usize, B: Blocks<S>>(
    units: &[Unit<S>; R],
    part: usize,
    step: &Step,
) -> [__m512i; R] {
    let mut sums = [_mm512_setzero_si512(); R];
    for digit in 0..step.digits.len() {
        for vector in 0..2 {
            let x = load(&step.digits[digit][vector]);
            for row in 0..R {
                if digit > 0 && vector == 0 {
                    let sum = sums[row];
                    sums[row] =
                        if B::EIGHT_BITS { _mm512_slli_epi32::<7>(sum) } else { _mm512_slli_epi32::<8>(sum) };
                }
                sums[row] = _mm512_dpbusd_epi32(sums[row], units[row].numbers[part][vector], x);
            }
        }
    }
    if B::BASE {
        for sum in &mut sums {
            *sum = _mm512_sub_epi32(*sum, load(&step.base));
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn load<T: bytemuck::Pod, const N: usize>(x: &[T; N]) -> __m512i {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: sixty-four bytes are there, of a type that has no others.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}
