//! Blocks of 256 numbers (ggml's K quants), whose groups have scales of a few bits under one or two of the whole block.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use super::{Eight, Format, each_byte, eights, half};

/// Numbers of a block.
const BLOCK: usize = 256;

/// 32 bytes or integers, as wide as vectors are: loops over eight alone become scalar code.
type PanelRow = [Eight; 32 / 8];

#[inline(always)]
fn lines(bytes: &[u8]) -> impl Iterator<Item = PanelRow> {
    bytes.as_chunks::<32>().0.iter().map(|line| {
        let mut eights = eights(line);
        [(); 32 / 8].map(|()| eights.next().unwrap_or_default())
    })
}

#[inline(always)]
fn lines_mut(numbers: &mut [Eight]) -> &mut [PanelRow] {
    numbers.as_chunks_mut().0
}

/// Two bits of each byte after another: 32 bytes are 128 numbers, 32 of them from each pair of bits.
#[inline(always)]
fn pairs_of_bits(bytes: &[u8], numbers: &mut [Eight]) {
    for (line, numbers) in lines(bytes).zip(lines_mut(numbers).as_chunks_mut::<4>().0) {
        for (pair, numbers) in numbers.iter_mut().enumerate() {
            *numbers = line.map(|bytes| bytes >> (2 * pair) & each_byte(3));
        }
    }
}

/// Two nibbles to a byte: 32 bytes are 64 numbers, the low nibbles first.
#[inline(always)]
fn nibbles(bytes: &[u8], numbers: &mut [Eight]) {
    for (line, [low, high]) in lines(bytes).zip(lines_mut(numbers).as_chunks_mut::<2>().0) {
        *low = line.map(|bytes| bytes & each_byte(15));
        *high = line.map(|bytes| bytes >> 4 & each_byte(15));
    }
}

/// Adds one more bit of value `1 << to` to each number: bit `i` of 32 bytes is that of the numbers of group `i`.
#[inline(always)]
fn add_bits(bytes: &[u8], to: u32, numbers: &mut [Eight]) {
    for line in lines(bytes) {
        for (bit, numbers) in lines_mut(numbers).iter_mut().enumerate() {
            let bits = line.map(|bytes| (bytes >> bit & each_byte(1)) << to);
            *numbers = or(*numbers, bits);
        }
    }
}

#[inline(always)]
fn or(a: PanelRow, b: PanelRow) -> PanelRow {
    std::array::from_fn(|i| a[i] | b[i])
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
    const BASE: f32 = 0.0;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [Eight], scales: &mut [f32], offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        let (d, least) = (half(&block[80..]), half(&block[82..]));
        for ((byte, scale), offset) in block[..16].iter().zip(scales).zip(offsets) {
            *scale = d * f32::from(byte & 15);
            *offset = -(least * f32::from(byte >> 4));
        }
        pairs_of_bits(&block[16..80], numbers);
    }
}

/// Three bits a number, the third ones lie apart.
pub(super) struct Q3K;

impl Format for Q3K {
    const BYTES: usize = 110;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 16;
    const OFFSETS: bool = false;
    const BASE: f32 = 4.0;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [Eight], scales: &mut [f32], _offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        let (packed, d) = (&block[96..108], half(&block[108..]));
        for (i, scale) in scales.iter_mut().take(16).enumerate() {
            let low = packed[i % 8] >> (i / 8 * 4) & 15;
            let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
            *scale = d * f32::from((low | high << 4).cast_signed() - 32);
        }
        pairs_of_bits(&block[32..96], numbers);
        add_bits(&block[..32], 2, numbers);
    }
}

/// Four bits a number.
pub(super) struct Q4K;

impl Format for Q4K {
    const BYTES: usize = 144;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 32;
    const OFFSETS: bool = true;
    const BASE: f32 = 0.0;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [Eight], scales: &mut [f32], offsets: &mut [f32]) {
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
    const BASE: f32 = 0.0;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [Eight], scales: &mut [f32], offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        scale_all(block, scales, offsets);
        nibbles(&block[48..], numbers);
        add_bits(&block[16..48], 4, numbers);
    }
}

/// Six bits a number: nibbles, and two more that lie apart.
pub(super) struct Q6K;

impl Format for Q6K {
    const BYTES: usize = 210;
    const NUMBERS: usize = BLOCK;
    const GROUP: usize = 16;
    const OFFSETS: bool = false;
    const BASE: f32 = 32.0;

    #[inline(always)]
    fn read(block: &[u8], numbers: &mut [Eight], scales: &mut [f32], _offsets: &mut [f32]) {
        let block = &block[..Self::BYTES];
        let d = half(&block[208..]);
        for (byte, scale) in block[192..208].iter().zip(scales) {
            *scale = d * f32::from(byte.cast_signed());
        }
        let halves = block[..128].chunks_exact(64).zip(lines(&block[128..192]));
        for ((low, high), numbers) in halves.zip(lines_mut(numbers).as_chunks_mut::<4>().0) {
            // The low nibbles of 64 bytes, then their high ones.
            let low: [PanelRow; 2] = {
                let mut both = lines(low);
                [(); 2].map(|()| both.next().unwrap_or_default())
            };
            for (quarter, numbers) in numbers.iter_mut().enumerate() {
                let low = low[quarter % 2].map(|bytes| bytes >> (quarter / 2 * 4) & each_byte(15));
                *numbers = or(low, high.map(|bytes| (bytes >> (2 * quarter) & each_byte(3)) << 4));
            }
        }
    }
}
