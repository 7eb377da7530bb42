//! Blocks of 256 numbers, whose groups have scales of a few bits under one or two of the whole block.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use super::{Format, half};

/// Numbers of a block.
const BLOCK: usize = 256;

/// Two bits of each byte after another: 32 bytes are 128 numbers, 32 of them from each pair of bits.
#[inline(always)]
fn pairs_of_bits(bytes: &[u8], numbers: &mut [i8]) {
    for (bytes, numbers) in bytes.chunks_exact(32).zip(numbers.chunks_exact_mut(128)) {
        for (pair, numbers) in numbers.chunks_exact_mut(32).enumerate() {
            for (number, byte) in numbers.iter_mut().zip(bytes) {
                *number = (byte >> (2 * pair) & 3).cast_signed();
            }
        }
    }
}

/// Two nibbles to a byte: 32 bytes are 64 numbers, the low nibbles first.
#[inline(always)]
fn nibbles(bytes: &[u8], numbers: &mut [i8]) {
    for (bytes, numbers) in bytes.chunks_exact(32).zip(numbers.chunks_exact_mut(64)) {
        let (low, high) = numbers.split_at_mut(32);
        for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
            *low = (byte & 15).cast_signed();
            *high = (byte >> 4).cast_signed();
        }
    }
}

/// Eight scales and eight minima of six bits each, in twelve bytes.
#[inline(always)]
fn sixes(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = packed[i] & 63;
        minima[i] = packed[i + 4] & 63;
        scales[i + 4] = packed[i + 8] & 15 | packed[i] >> 6 << 4;
        minima[i + 4] = packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4;
    }
    (scales, minima)
}

/// Scales and offsets from those of the block, `d` and `least`, and eight of each.
#[inline(always)]
fn scale_all(block: &[u8], scales: &mut [f32], offsets: &mut [f32]) {
    let (d, least) = (half(block), half(&block[2..]));
    let (six, minima) = sixes(&block[4..16]);
    for i in 0..8 {
        scales[i] = d * f32::from(six[i]);
        offsets[i] = -(least * f32::from(minima[i]));
    }
}

/// Two bits a number.
pub(super) struct Q2K;

impl Format for Q2K {
    const BYTES: usize = 84;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 16;
    const OFFSETS: bool = true;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [i8], scales: &mut [f32], offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        let (d, least) = (half(&block[80..]), half(&block[82..]));
        for ((byte, scale), offset) in block[..16].iter().zip(scales).zip(offsets) {
            *scale = d * f32::from(byte & 15);
            *offset = -(least * f32::from(byte >> 4));
        }
        pairs_of_bits(&block[16..80], numbers);
    }
}

/// Three bits a number: two, and a mask of those that are not lowered by 4.
pub(super) struct Q3K;

impl Format for Q3K {
    const BYTES: usize = 110;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 16;
    const OFFSETS: bool = false;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [i8], scales: &mut [f32], _offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        let (packed, d) = (&block[96..108], half(&block[108..]));
        for (i, scale) in scales.iter_mut().take(16).enumerate() {
            let low = packed[i % 8] >> (i / 8 * 4) & 15;
            let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
            *scale = d * f32::from((low | high << 4).cast_signed() - 32);
        }
        pairs_of_bits(&block[32..96], numbers);
        for (bit, numbers) in numbers.chunks_exact_mut(32).enumerate() {
            for (number, mask) in numbers.iter_mut().zip(&block[..32]) {
                *number -= if mask >> bit & 1 == 0 { 4 } else { 0 };
            }
        }
    }
}

/// Four bits a number.
pub(super) struct Q4K;

impl Format for Q4K {
    const BYTES: usize = 144;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 32;
    const OFFSETS: bool = true;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [i8], scales: &mut [f32], offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        scale_all(block, scales, offsets);
        nibbles(&block[16..], numbers);
    }
}

/// Five bits a number; the fifth ones lie apart.
pub(super) struct Q5K;

impl Format for Q5K {
    const BYTES: usize = 176;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 32;
    const OFFSETS: bool = true;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [i8], scales: &mut [f32], offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        scale_all(block, scales, offsets);
        nibbles(&block[48..], numbers);
        for (bit, numbers) in numbers.chunks_exact_mut(32).enumerate() {
            for (number, bits) in numbers.iter_mut().zip(&block[16..48]) {
                *number += (bits >> bit & 1).cast_signed() * 16;
            }
        }
    }
}

/// Six bits a number: nibbles, and two more that lie apart.
pub(super) struct Q6K;

impl Format for Q6K {
    const BYTES: usize = 210;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 16;
    const OFFSETS: bool = false;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [i8], scales: &mut [f32], _offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        let d = half(&block[208..]);
        for (byte, scale) in block[192..208].iter().zip(scales) {
            *scale = d * f32::from(byte.cast_signed());
        }
        let halves = block[..128].chunks_exact(64).zip(block[128..192].chunks_exact(32));
        for ((low, high), numbers) in halves.zip(numbers.chunks_exact_mut(128)) {
            // The low nibbles of 64 bytes, then their high ones.
            for (quarter, numbers) in numbers.chunks_exact_mut(32).enumerate() {
                let low = &low[quarter % 2 * 32..][..32];
                for ((number, low), high) in numbers.iter_mut().zip(low).zip(high) {
                    let low = low >> (quarter / 2 * 4) & 15;
                    *number = (low | (high >> (2 * quarter) & 3) << 4).cast_signed() - 32;
                }
            }
        }
    }
}
