//! AVX2: sums of products of rows of blocks. Products of two bytes are summed in pairs, which fit 16 bits.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use core::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps,
    _mm_prefetch, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_cvtepi32_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_permutevar8x32_ps, _mm256_set1_epi16, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_slli_epi32, _mm256_sub_epi32,
};

use super::super::{QuantFormat, QuantizedSlice};
use super::avx2_blocks::{Blocks, Unit, load, load_floats};
use super::avx2_k_quants::{Q4K, Q5K, Q6K};
use super::avx2_legacy_quants::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use super::rounded::{AHEAD, MOST_BYTES, Rounded, Rows, Step};

/// Whether the machine has what is needed.
pub(super) fn detect() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") && is_x86_feature_detected!("fma")
}

/// Rows of activations against rows of blocks: `out` is `[rows, tokens]`. Each row of blocks is read from memory once.
///
/// # Safety
///
/// [`detect`] has found the features.
#[target_feature(enable = "avx2,f16c,fma")]
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
#[target_feature(enable = "avx2,f16c,fma")]
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
#[target_feature(enable = "avx2,f16c,fma")]
fn sums<const S: usize, const T: usize, B: Blocks<S>>(row: &[u8], x: Rows<'_>) -> [f32; T] {
    // By lane. Where a format has offsets, they are among others.
    let (mut products, mut offsets) = ([_mm256_setzero_ps(); T], [_mm256_setzero_ps(); T]);
    // At the end of a row blocks of zeros fill a unit up, which meet zeros.
    let (whole, mut last) = (row.len() / B::BYTES, [0; MOST_BYTES]);
    if whole < x.units {
        let rest = &row[whole * B::BYTES..];
        last[..rest.len()].copy_from_slice(rest);
    }
    for index in 0..x.units {
        let bytes = if index < whole { &row[index * B::BYTES..] } else { &last };
        for line in (0..B::BYTES).step_by(64) {
            // Asking for memory changes nothing, wherever it is.
            _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(AHEAD + line).cast());
        }
        // SAFETY: the features are those of this function.
        let unit = unsafe { B::read(&bytes[..B::BYTES]) };
        for token in 0..T {
            let at = token * x.units + index;
            let mut scales = unit.scales;
            for table in 0..B::TABLES {
                scales[table] = _mm256_mul_ps(scales[table], load_floats(&x.factors[at].0, 8 * table));
                if B::OFFSETS.is_some() {
                    offsets[token] = _mm256_add_ps(offsets[token], scales[table]);
                }
            }
            let steps = &x.steps[at * S..][..S];
            for part in 0..S {
                for half in 0..2 {
                    let whole = eights::<S, B>(&unit, part, half, &steps[part]);
                    let (table, lanes) = &B::LANES[part][half];
                    let scales = _mm256_permutevar8x32_ps(scales[*table], load(lanes, 0));
                    products[token] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), scales, products[token]);
                }
            }
        }
    }
    let mut sums = [0f32; T];
    for token in 0..T {
        sums[token] = reduce(match &B::OFFSETS {
            Some(which) => {
                let offsets = _mm256_and_ps(offsets[token], _mm256_castsi256_ps(load(which, 0)));
                _mm256_add_ps(products[token], offsets)
            }
            None => products[token],
        });
    }
    sums
}

/// By lane, sums of the eight products of half a step.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn eights<const S: usize, B: Blocks<S>>(unit: &Unit<S>, part: usize, half: usize, step: &Step) -> __m256i {
    let numbers = &unit.numbers[part];
    let mut sum = _mm256_setzero_si256();
    for digit in 0..step.digits.len() {
        if digit > 0 {
            sum = if B::EIGHT_BITS { _mm256_slli_epi32::<7>(sum) } else { _mm256_slli_epi32::<8>(sum) };
        }
        let x = &step.digits[digit];
        let a = _mm256_maddubs_epi16(numbers[0][half], load(&x[0], 32 * half));
        let b = _mm256_maddubs_epi16(numbers[1][half], load(&x[1], 32 * half));
        sum = _mm256_add_epi32(sum, add_pairs(a, b, B::EIGHT_BITS));
    }
    if B::BASE { _mm256_sub_epi32(sum, load(&step.base, 8 * half)) } else { sum }
}

/// Adds up sums of two products each. Of numbers of eight bits no more than two fit 16 bits.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn add_pairs(a: __m256i, b: __m256i, eight_bits: bool) -> __m256i {
    let one = _mm256_set1_epi16(1);
    if eight_bits {
        _mm256_add_epi32(_mm256_madd_epi16(a, one), _mm256_madd_epi16(b, one))
    } else {
        _mm256_madd_epi16(_mm256_add_epi16(a, b), one)
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn reduce(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
