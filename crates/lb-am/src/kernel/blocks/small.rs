//! Blocks of 32 numbers with one scale.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use super::{Format, half};

/// Numbers of a block.
const BLOCK: usize = 32;

/// A number of two nibbles to a byte: all the low ones come first.
#[inline(always)]
fn nibbles(bytes: &[u8], numbers: &mut [i8], base: i8) {
    let (low, high) = numbers.split_at_mut(BLOCK / 2);
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = (byte & 15).cast_signed() - base;
        *high = (byte >> 4).cast_signed() - base;
    }
}

/// Adds the fifth bit of each number; bit `i` of the four bytes is that of number `i`.
#[inline(always)]
fn add_bits(bits: &[u8], numbers: &mut [i8]) {
    let spread: [u8; BLOCK] = std::array::from_fn(|i| bits[i / 8] & (1 << (i % 8)));
    for (number, bit) in numbers.iter_mut().zip(&spread) {
        *number += if *bit == 0 { 0 } else { 16 };
    }
}

macro_rules! format {
    ($name:ident, $bytes:expr, $offsets:expr, |$block:ident, $numbers:ident, $offset:ident| $read:block) => {
        pub(super) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const NUMBERS: usize = BLOCK;
            const GROUP: usize = BLOCK;
            const OFFSETS: bool = $offsets;

            #[inline(always)]
            fn read(block: &[u8], numbers: &mut [i8], scales: &mut [f32], offsets: &mut [f32]) {
                let ($block, $numbers) = (&block[..$bytes], &mut numbers[..BLOCK]);
                scales[0] = half($block);
                let $offset = &mut offsets[0];
                $read
            }
        }
    };
}

format!(Q4_0, 18, false, |block, numbers, _offset| { nibbles(&block[2..], numbers, 8) });

format!(Q4_1, 20, true, |block, numbers, offset| {
    *offset = half(&block[2..]);
    nibbles(&block[4..], numbers, 0);
});

format!(Q5_0, 22, false, |block, numbers, _offset| {
    nibbles(&block[6..], numbers, 16);
    add_bits(&block[2..6], numbers);
});

format!(Q5_1, 24, true, |block, numbers, offset| {
    *offset = half(&block[2..]);
    nibbles(&block[8..], numbers, 0);
    add_bits(&block[4..8], numbers);
});

format!(Q8_0, 34, false, |block, numbers, _offset| {
    for (number, byte) in numbers.iter_mut().zip(&block[2..]) {
        *number = byte.cast_signed();
    }
});
