//! What a row of blocks is made of, in NEON's vectors.

#![allow(unsafe_code, reason = "intrinsics; every machine of this kind has these")]

use core::arch::aarch64::{
    float32x4_t, int8x16_t, uint8x16_t, vandq_u8, vcreate_u64, vcvt_f32_f16, vdupq_n_u8, vld1q_f32, vld1q_s8,
    vld1q_u8, vreinterpret_f16_u64, vshrq_n_u8,
};

/// Groups of 16 or 32 numbers side by side in a step: vectors.
pub(super) const SIDE_BY_SIDE: usize = 4;

/// Numbers of some blocks, taken apart: signed bytes for `S` steps of two vectors, each in four parts.
pub(super) struct Unit<const S: usize> {
    pub(super) numbers: [[[int8x16_t; SIDE_BY_SIDE]; 2]; S],
    /// In the order of the activations' factors; as many as [`Blocks::TABLES`] says, for each step.
    pub(super) scales: [[float32x4_t; 2]; S],
    /// In the order of the groups, as many as [`Blocks::OFFSETS`] says.
    pub(super) offsets: [float32x4_t; 2],
}

/// A format whose unit are `S` steps.
pub(super) trait Blocks<const S: usize> {
    /// Of a unit.
    const BYTES: usize;
    /// Bits of a digit of an activation.
    const DIGIT: i32;
    /// The largest magnitude of a number.
    const MOST: i64;
    /// How many sums of eight products, with the largest integers that stand for activations, fit 32 bits together.
    const TOGETHER: i64 = i32::MAX as i64 / (8 * Self::MOST * (1 << (2 * Self::DIGIT + 6)));
    /// Fours of scales in a step: one, or two where the halves of a part are of different groups.
    const TABLES: usize;
    /// Fours of offsets in a unit.
    const OFFSETS: usize;

    /// # Safety
    ///
    /// The machine has NEON.
    unsafe fn read(unit: &[u8]) -> Unit<S>;
}

/// Sixteen of the bytes, from `at` on.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(x: &[u8], at: usize) -> uint8x16_t {
    let x = &x[at..at + 16];
    // SAFETY: sixteen bytes are there.
    unsafe { vld1q_u8(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_signed(x: &[i8], at: usize) -> int8x16_t {
    let x = &x[at..at + 16];
    // SAFETY: sixteen bytes are there.
    unsafe { vld1q_s8(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_floats(x: &[f32], at: usize) -> float32x4_t {
    let x = &x[at..at + 4];
    // SAFETY: four numbers are there.
    unsafe { vld1q_f32(x.as_ptr()) }
}

/// Four f16, the first in the lowest bits.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widen_halves(four: u64) -> float32x4_t {
    vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(four)))
}

/// The low nibble of each byte, or the high one.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn nibbles(bytes: uint8x16_t, high: bool) -> uint8x16_t {
    if high { vshrq_n_u8::<4>(bytes) } else { vandq_u8(bytes, vdupq_n_u8(15)) }
}
