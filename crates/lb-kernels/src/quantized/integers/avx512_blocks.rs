//! What a row of blocks is made of, in AVX-512's vectors.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

use core::arch::x86_64::{__m128i, __m512, __m512i, _mm_loadu_si128, _mm512_loadu_si512};

/// Numbers of some blocks, taken apart: unsigned bytes for `S` steps of two vectors.
#[derive(Clone, Copy)]
pub(super) struct Unit<const S: usize> {
    pub(super) numbers: [[__m512i; 2]; S],
    /// Scales and offsets, in the order of the activations' factors.
    pub(super) scales: __m512,
}

/// A format whose unit are `S` steps.
pub(super) trait Blocks<const S: usize> {
    /// Of a unit.
    const BYTES: usize;
    /// Whether something is subtracted from every number.
    const BASE: bool;
    /// Whether numbers are more than six bits.
    const EIGHT_BITS: bool;
    /// Which of a unit's scales are offsets.
    const OFFSETS: u16;
    /// Which of a unit's scales a lane of a step has.
    const LANES: [[i32; 16]; S];

    /// # Safety
    ///
    /// The machine has AVX-512 F, BW and VNNI, AVX2, F16C and FMA.
    unsafe fn read(unit: &[u8]) -> Unit<S>;
}

/// Each of four places for four lanes.
pub(super) const fn fours(places: [i32; 4]) -> [i32; 16] {
    let mut lanes = [0; 16];
    let mut lane = 0;
    while lane < 16 {
        lanes[lane] = places[lane / 4];
        lane += 1;
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_64(x: &[u8]) -> __m512i {
    assert!(x.len() >= 64);
    // SAFETY: sixty-four bytes are there.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_16(x: &[u8]) -> __m128i {
    assert!(x.len() >= 16);
    // SAFETY: sixteen bytes are there.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}
