//! AVX-512 VNNI: sums of products of rows of blocks.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

use core::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_add_ps, _mm512_mul_ps,
    _mm512_permutexvar_ps, _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_sub_epi32,
};

use super::super::{QuantFormat, QuantizedSlice};
use super::avx512_blocks::{Blocks, Unit};
use super::avx512_k_quants::{Q4K, Q5K, Q6K};
use super::avx512_legacy_quants::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use super::rounded::{AHEAD, MOST_BYTES, Rounded, Rows};

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

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
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
                8.. => put(sums::<S, 8, B>(row, x), out),
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
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn sums<const S: usize, const T: usize, B: Blocks<S>>(row: &[u8], x: Rows<'_>) -> [f32; T] {
    let mut sums = Sums { products: [_mm512_setzero_ps(); T], offsets: [_mm512_setzero_ps(); T] };
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
        add::<S, T, B>(&mut sums, &unsafe { B::read(&padded[..B::BYTES.min(MOST_BYTES)]) }, x, index);
    }
    let mut reduced = [0f32; T];
    for (out, (products, offsets)) in reduced.iter_mut().zip(sums.products.into_iter().zip(sums.offsets)) {
        *out = _mm512_reduce_add_ps(_mm512_mask_add_ps(products, B::OFFSETS, products, offsets));
    }
    reduced
}

/// By lane and for each row of activations.
struct Sums<const T: usize> {
    products: [__m512; T],
    /// Where a format has offsets: among other things.
    offsets: [__m512; T],
}

/// Adds the products of a unit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn add<const S: usize, const T: usize, B: Blocks<S>>(
    sums: &mut Sums<T>,
    unit: &Unit<S>,
    x: Rows<'_>,
    index: usize,
) {
    for token in 0..T {
        let at = token * x.units + index;
        let steps = &x.steps[at * S..][..S];
        // SAFETY: sixteen numbers are there.
        let factors = unsafe { _mm512_loadu_ps(x.factors[at].0.as_ptr()) };
        let scales = _mm512_mul_ps(unit.scales, factors);
        if B::OFFSETS != 0 {
            sums.offsets[token] = _mm512_add_ps(sums.offsets[token], scales);
        }
        for ((step, numbers), lanes) in steps.iter().zip(&unit.numbers).zip(&B::LANES) {
            let mut whole = _mm512_setzero_si512();
            for (index, vectors) in step.digits.iter().enumerate() {
                if index > 0 {
                    whole = if B::EIGHT_BITS {
                        _mm512_slli_epi32::<7>(whole)
                    } else {
                        _mm512_slli_epi32::<8>(whole)
                    };
                }
                for (vector, numbers) in vectors.iter().zip(numbers) {
                    // SAFETY: sixty-four bytes are there.
                    let vector = unsafe { _mm512_loadu_si512(vector.as_ptr().cast()) };
                    whole = _mm512_dpbusd_epi32(whole, *numbers, vector);
                }
            }
            // SAFETY: sixteen integers are there, each time.
            let (base, lanes) = unsafe {
                (_mm512_loadu_si512(step.base.as_ptr().cast()), _mm512_loadu_si512(lanes.as_ptr().cast()))
            };
            if B::BASE {
                whole = _mm512_sub_epi32(whole, base);
            }
            let scales = _mm512_permutexvar_ps(lanes, scales);
            sums.products[token] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scales, sums.products[token]);
        }
    }
}
