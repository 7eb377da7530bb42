//! AVX2: sums of products of rows of blocks. Products of two bytes are summed in pairs, which fit 16 bits.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

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
use super::rounded::{AHEAD, MOST_BYTES, Rounded, Rows};

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
        let mut first = 0;
        while first < out.len() {
            let (x, out) = (x.from(first), &mut out[first..]);
            first += match out.len() {
                4.. => put(sums::<S, 4, B>(row, x), out),
                2.. => put(sums::<S, 2, B>(row, x), out),
                _ => put(sums::<S, 1, B>(row, x), out),
            };
        }
    }
}

/// Writes sums to the first places; returns how many.
fn put<const T: usize>(sums: [f32; T], out: &mut [f32]) -> usize {
    out[..T].copy_from_slice(&sums);
    T
}

/// Sums of a row of blocks for `T` rows of activations. The order in which a sum is made does not depend on how many there
/// are.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn sums<const S: usize, const T: usize, B: Blocks<S>>(row: &[u8], x: Rows<'_>) -> [f32; T] {
    let mut sums = Sums { products: [_mm256_setzero_ps(); T], offsets: [_mm256_setzero_ps(); T] };
    let units = row.chunks_exact(B::BYTES);
    let rest = units.remainder();
    let mut index = 0;
    for unit in units {
        for line in (0..B::BYTES).step_by(64) {
            // Asking for memory changes nothing, wherever it is.
            _mm_prefetch::<_MM_HINT_T0>(unit.as_ptr().wrapping_add(AHEAD + line).cast());
        }
        // SAFETY: the features are those of this function.
        add::<S, T, B>(&mut sums, &unsafe { B::read(unit) }, x, index);
        index += 1;
    }
    if !rest.is_empty() {
        // Blocks of zeros, which meet zeros.
        let mut padded = [0; MOST_BYTES];
        padded[..rest.len()].copy_from_slice(rest);
        // SAFETY: the features are those of this function.
        add::<S, T, B>(&mut sums, &unsafe { B::read(&padded[..B::BYTES]) }, x, index);
    }
    let mut reduced = [0f32; T];
    for (out, (products, offsets)) in reduced.iter_mut().zip(sums.products.into_iter().zip(sums.offsets)) {
        *out = reduce(match &B::OFFSETS {
            Some(which) => {
                _mm256_add_ps(products, _mm256_and_ps(offsets, _mm256_castsi256_ps(load(which, 0))))
            }
            None => products,
        });
    }
    reduced
}

#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn reduce(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// By lane and for each row of activations.
struct Sums<const T: usize> {
    products: [__m256; T],
    /// Where a format has offsets: among other things.
    offsets: [__m256; T],
}

/// Adds the products of a unit.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn add<const S: usize, const T: usize, B: Blocks<S>>(
    sums: &mut Sums<T>,
    unit: &Unit<S>,
    x: Rows<'_>,
    index: usize,
) {
    for token in 0..T {
        let at = token * x.units + index;
        let mut scales = unit.scales;
        for (table, scales) in scales.iter_mut().enumerate().take(B::TABLES) {
            *scales = _mm256_mul_ps(*scales, load_floats(&x.factors[at].0, 8 * table));
            if B::OFFSETS.is_some() {
                sums.offsets[token] = _mm256_add_ps(sums.offsets[token], *scales);
            }
        }
        for (part, step) in x.steps[at * S..][..S].iter().enumerate() {
            for half in 0..2 {
                let mut whole = _mm256_setzero_si256();
                for (index, vectors) in step.digits.iter().enumerate() {
                    if index > 0 {
                        whole = if B::EIGHT_BITS {
                            _mm256_slli_epi32::<7>(whole)
                        } else {
                            _mm256_slli_epi32::<8>(whole)
                        };
                    }
                    let [first, second] = &unit.numbers[part];
                    let a = _mm256_maddubs_epi16(first[half], load(&vectors[0], 32 * half));
                    let b = _mm256_maddubs_epi16(second[half], load(&vectors[1], 32 * half));
                    whole = _mm256_add_epi32(whole, add_pairs(a, b, B::EIGHT_BITS));
                }
                if B::BASE {
                    whole = _mm256_sub_epi32(whole, load(&step.base, 8 * half));
                }
                let (table, lanes) = &B::LANES[part][half];
                let scales = _mm256_permutevar8x32_ps(scales[*table], load(lanes, 0));
                sums.products[token] =
                    _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), scales, sums.products[token]);
            }
        }
    }
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
