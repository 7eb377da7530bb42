//! Blocks of 256 numbers (ggml's K quants), in NEON's vectors.

#![allow(unsafe_code, reason = "intrinsics; every machine of this kind has these")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use core::arch::aarch64::{
    float32x4_t, uint8x16_t, vandq_u8, vbslq_u8, vcreate_u8, vcvtq_f32_s32, vcvtq_f32_u32, vdupq_n_f32,
    vdupq_n_s8, vdupq_n_u8, vextq_s8, vget_high_s8, vget_high_s16, vget_high_u16, vget_low_s8, vget_low_s16,
    vget_low_u16, vmovl_s8, vmovl_s16, vmovl_u8, vmovl_u16, vmulq_laneq_f32, vorrq_u8, vreinterpretq_s8_u8,
    vreinterpretq_u8_u64, vreinterpretq_u64_u8, vshlq_n_u8, vshrq_n_u8, vsubq_s8, vuzp1q_f32, vuzp2q_f32,
    vzip1q_s8, vzip1q_u64, vzip2q_u64,
};

use super::neon_blocks::{Blocks, SIDE_BY_SIDE, Unit, load, nibbles, widen_halves};
use super::scales::sixes;

/// Eight scales, those of even groups and of odd ones, and eight minima.
#[inline]
#[target_feature(enable = "neon")]
fn scales(block: &[u8]) -> ([[float32x4_t; 2]; 2], [float32x4_t; 2]) {
    let halves = widen_halves(u64::from(u32::from_le_bytes([block[0], block[1], block[2], block[3]])));
    let [first, second] = sixes(block).map(|eight| {
        let small = vmovl_u8(vcreate_u8(eight));
        let scales = vcvtq_f32_u32(vmovl_u16(vget_low_u16(small)));
        let minima = vcvtq_f32_u32(vmovl_u16(vget_high_u16(small)));
        [vmulq_laneq_f32::<0>(scales, halves), vmulq_laneq_f32::<1>(minima, halves)]
    });
    let none = vdupq_n_f32(0.0);
    let scales = [[vuzp1q_f32(first[0], second[0]), none], [vuzp2q_f32(first[0], second[0]), none]];
    (scales, [first[1], second[1]])
}

/// Nibbles of 128 bytes, low ones for the first step and high ones for the second, as `add` completes them; it gets the group
/// and which of its halves.
#[inline]
#[target_feature(enable = "neon")]
fn unit(block: &[u8], at: usize, add: impl Fn(uint8x16_t, usize, usize) -> uint8x16_t) -> Unit<2> {
    let (scales, offsets) = scales(block);
    let mut numbers = [[[vdupq_n_s8(0); SIDE_BY_SIDE]; 2]; 2];
    for part in 0..SIDE_BY_SIDE {
        for half in 0..2 {
            let bytes = load(block, at + 32 * part + 16 * half);
            for step in 0..2 {
                let whole = add(nibbles(bytes, step == 1), 2 * part + step, half);
                numbers[step][half][part] = vreinterpretq_s8_u8(whole);
            }
        }
    }
    Unit { numbers, scales, offsets }
}

pub(super) struct Q4K;

impl Blocks<2> for Q4K {
    const BYTES: usize = 144;
    const DIGIT: i32 = 8;
    const MOST: i64 = 15;
    const TABLES: usize = 1;
    const OFFSETS: usize = 2;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        unit(&block[..144], 16, |nibbles, _, _| nibbles)
    }
}

pub(super) struct Q5K;

impl Blocks<2> for Q5K {
    const BYTES: usize = 176;
    const DIGIT: i32 = 8;
    const MOST: i64 = 31;
    const TABLES: usize = 1;
    const OFFSETS: usize = 2;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        let block = &block[..176];
        let (bits, five) = ([load(block, 16), load(block, 32)], vdupq_n_u8(16));
        unit(block, 48, |nibbles, group, half| {
            // A bit of each byte for every group, moved to the fifth place.
            let bit = match group {
                0 => vshlq_n_u8::<4>(bits[half]),
                1 => vshlq_n_u8::<3>(bits[half]),
                2 => vshlq_n_u8::<2>(bits[half]),
                3 => vshlq_n_u8::<1>(bits[half]),
                4 => bits[half],
                5 => vshrq_n_u8::<1>(bits[half]),
                6 => vshrq_n_u8::<2>(bits[half]),
                _ => vshrq_n_u8::<3>(bits[half]),
            };
            vbslq_u8(five, bit, nibbles)
        })
    }
}

pub(super) struct Q6K;

impl Blocks<2> for Q6K {
    const BYTES: usize = 210;
    const DIGIT: i32 = 8;
    const MOST: i64 = 32;
    const TABLES: usize = 2;
    const OFFSETS: usize = 0;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        let block = &block[..210];
        let (two, base) = (vdupq_n_u8(0x30), vdupq_n_s8(32));
        // Of sixteen bytes of each half of the block the first eight, and the others.
        let mixed = |at: usize, other: usize| {
            let (a, b) = (vreinterpretq_u64_u8(load(block, at)), vreinterpretq_u64_u8(load(block, other)));
            [vreinterpretq_u8_u64(vzip1q_u64(a, b)), vreinterpretq_u8_u64(vzip2q_u64(a, b))]
        };
        let pairs = [mixed(128, 160), mixed(144, 176)];
        let mut numbers = [[[vdupq_n_s8(0); SIDE_BY_SIDE]; 2]; 2];
        for part in 0..SIDE_BY_SIDE {
            let bytes = mixed(16 * part, 64 + 16 * part);
            for vector in 0..2 {
                let pairs = pairs[part % 2][vector];
                for step in 0..2 {
                    // Pairs of bits are moved above nibbles.
                    let above = match 2 * step + part / 2 {
                        0 => vshlq_n_u8::<4>(pairs),
                        1 => vshlq_n_u8::<2>(pairs),
                        2 => pairs,
                        _ => vshrq_n_u8::<2>(pairs),
                    };
                    let whole = vorrq_u8(nibbles(bytes[vector], step == 1), vandq_u8(above, two));
                    numbers[step][vector][part] = vsubq_s8(vreinterpretq_s8_u8(whole), base);
                }
            }
        }
        // Of the first half of the block and of the second in turn.
        let small = vreinterpretq_s8_u8(load(block, 192));
        let small = vzip1q_s8(small, vextq_s8::<8>(small, small));
        let half = widen_halves(u64::from(u16::from_le_bytes([block[208], block[209]])));
        let scaled = |small| vmulq_laneq_f32::<0>(vcvtq_f32_s32(small), half);
        let scales = [vmovl_s8(vget_low_s8(small)), vmovl_s8(vget_high_s8(small))]
            .map(|small| [scaled(vmovl_s16(vget_low_s16(small))), scaled(vmovl_s16(vget_high_s16(small)))]);
        Unit { numbers, scales, offsets: [vdupq_n_f32(0.0); 2] }
    }
}
