//! What a row of blocks is made of, in AVX2's vectors.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

use core::arch::x86_64::{__m128i, __m256, __m256i, _mm_loadu_si128, _mm256_loadu_ps, _mm256_loadu_si256};

/// Numbers of some blocks, taken apart: unsigned bytes for `S` steps of two vectors, each in two halves.
pub(super) struct Unit<const S: usize> {
    pub(super) numbers: [[[__m256i; 2]; 2]; S],
    /// Scales and offsets, in the order of the activations' factors.
    pub(super) scales: [__m256; 2],
}

/// Where the scales of eight lanes are: in the first or the second eight, and where in them.
pub(super) type Lanes = (usize, [i32; 8]);

/// A format whose unit are `S` steps.
pub(super) trait Blocks<const S: usize> {
    /// Of a unit.
    const BYTES: usize;
    /// Whether something is subtracted from every number.
    const BASE: bool;
    /// Whether a number is more than six bits.
    const EIGHT_BITS: bool;
    /// How many eights of scales there are.
    const TABLES: usize;
    /// Which of eight scales are offsets: all bits set.
    const OFFSETS: Option<[i32; 8]>;
    /// Which of a unit's scales a lane has, for both halves of each step.
    const LANES: [[Lanes; 2]; S];

    /// # Safety
    ///
    /// The machine has AVX2, F16C and FMA.
    unsafe fn read(unit: &[u8]) -> Unit<S>;
}

/// Each of two places for four lanes.
pub(super) const fn fours(a: i32, b: i32) -> [i32; 8] {
    [a, a, a, a, b, b, b, b]
}

/// A vector of what begins at `at`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load<T: bytemuck::Pod>(x: &[T], at: usize) -> __m256i {
    let x = &x[at..];
    assert!(size_of_val(x) >= 32);
    // SAFETY: thirty-two bytes are there, of a type that has no others.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_floats(x: &[f32], at: usize) -> __m256 {
    let x = &x[at..at + 8];
    // SAFETY: eight numbers are there.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_16(x: &[u8], at: usize) -> __m128i {
    let x = &x[at..at + 16];
    // SAFETY: sixteen bytes are there.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}
