//! Blocks of 32 numbers, four at a time, in NEON's vectors.

#![allow(unsafe_code, reason = "intrinsics; every machine of this kind has these")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use core::arch::aarch64::{
    float32x4_t, int8x16_t, uint8x16_t, vandq_u8, vbicq_u8, vcombine_u8, vcreate_u8, vcreate_u16,
    vdupq_n_f32, vdupq_n_s8, vdupq_n_u8, vdupq_n_u32, vget_lane_u64, vorrq_u8, vqtbl1q_u8,
    vreinterpret_u64_u16, vreinterpretq_s8_u8, vreinterpretq_u8_u32, vsubq_s8, vtstq_u8, vuzp1_u16,
    vuzp2_u16,
};

use super::neon_blocks::{Blocks, SIDE_BY_SIDE, Unit, load, nibbles, widen_halves};
use super::scales::{four_halves, four_words};

/// Numbers of four blocks: the first sixteen of each, and the others.
type Numbers = [[int8x16_t; SIDE_BY_SIDE]; 2];

/// Scales of four blocks, and no offsets.
#[inline]
#[target_feature(enable = "neon")]
fn scales<const BYTES: usize>(blocks: &[u8]) -> [float32x4_t; 2] {
    [widen_halves(four_halves::<BYTES>(blocks, 0)), vdupq_n_f32(0.0)]
}

/// Scales of four blocks, and their offsets.
#[inline]
#[target_feature(enable = "neon")]
fn offsets<const BYTES: usize>(blocks: &[u8]) -> [float32x4_t; 2] {
    let [a, b] = four_words::<BYTES>(blocks);
    let (a, b) = (vcreate_u16(a), vcreate_u16(b));
    [vuzp1_u16(a, b), vuzp2_u16(a, b)].map(|four| {
        let four = vget_lane_u64::<0>(vreinterpret_u64_u16(four));
        widen_halves(four)
    })
}

/// Of each block sixteen bytes from `at` on: numbers from low nibbles, then from high ones; `make` gets which block it is.
#[inline]
#[target_feature(enable = "neon")]
fn from_nibbles<const BYTES: usize>(
    blocks: &[u8],
    at: usize,
    make: impl Fn(uint8x16_t, usize, bool) -> int8x16_t,
) -> Numbers {
    let mut numbers = [[vdupq_n_s8(0); SIDE_BY_SIDE]; 2];
    for block in 0..SIDE_BY_SIDE {
        let bytes = load(blocks, block * BYTES + at);
        numbers[0][block] = make(nibbles(bytes, false), block, false);
        numbers[1][block] = make(nibbles(bytes, true), block, true);
    }
    numbers
}

/// All bits of a byte where the fifth bit of a number is set: for the first sixteen numbers of a block, or for the others. The
/// 32 bits are `at` so many bytes from its start.
#[inline]
#[target_feature(enable = "neon")]
fn fifth_bits(block: &[u8], at: usize, others: bool) -> uint8x16_t {
    // Each byte goes to the eight numbers that its bits are of.
    let places =
        if others { [0x0202_0202_0202_0202, 0x0303_0303_0303_0303] } else { [0, 0x0101_0101_0101_0101] };
    let [a, b] = places.map(|eight| vcreate_u8(eight));
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let bits = vqtbl1q_u8(vreinterpretq_u8_u32(vdupq_n_u32(bits)), vcombine_u8(a, b));
    let which = vcreate_u8(0x8040_2010_0804_0201);
    vtstq_u8(bits, vcombine_u8(which, which))
}

macro_rules! blocks {
    ($name:ident, $block:expr, $digit:expr, $most:expr, $offsets:expr, $scales:ident, |$x:ident| $numbers:expr) => {
        pub(super) struct $name;

        impl Blocks<1> for $name {
            const BYTES: usize = 4 * $block;
            const DIGIT: i32 = $digit;
            const MOST: i64 = $most;
            const TABLES: usize = 1;
            const OFFSETS: usize = $offsets;

            #[inline]
            #[target_feature(enable = "neon")]
            unsafe fn read($x: &[u8]) -> Unit<1> {
                let $x = &$x[..Self::BYTES];
                let [scales, offsets] = $scales::<$block>($x);
                let none = vdupq_n_f32(0.0);
                Unit { numbers: [$numbers], scales: [[scales, none]], offsets: [offsets, none] }
            }
        }
    };
}

blocks!(Q4_0, 18, 8, 8, 0, scales, |x| {
    from_nibbles::<18>(x, 2, |n, _, _| vsubq_s8(vreinterpretq_s8_u8(n), vdupq_n_s8(8)))
});
blocks!(Q4_1, 20, 8, 15, 1, offsets, |x| from_nibbles::<20>(x, 4, |n, _, _| vreinterpretq_s8_u8(n)));
// A nibble less 16, where the fifth bit is not set: the bits above it.
blocks!(Q5_0, 22, 8, 16, 0, scales, |x| {
    from_nibbles::<22>(x, 6, |n, block, high| {
        let set = fifth_bits(x, 22 * block + 2, high);
        vreinterpretq_s8_u8(vorrq_u8(n, vbicq_u8(vdupq_n_u8(0xf0), set)))
    })
});
blocks!(Q5_1, 24, 8, 31, 1, offsets, |x| {
    from_nibbles::<24>(x, 8, |n, block, high| {
        let set = fifth_bits(x, 24 * block + 4, high);
        vreinterpretq_s8_u8(vorrq_u8(n, vandq_u8(vdupq_n_u8(16), set)))
    })
});
blocks!(Q8_0, 34, 7, 128, 0, scales, |x| {
    let mut numbers = [[vdupq_n_s8(0); SIDE_BY_SIDE]; 2];
    for block in 0..SIDE_BY_SIDE {
        for half in 0..2 {
            numbers[half][block] = vreinterpretq_s8_u8(load(x, 34 * block + 2 + 16 * half));
        }
    }
    numbers
});
