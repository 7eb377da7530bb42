//! Blocks of 32 numbers with one scale.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use super::{Eight, Format, each_byte, eights, half};

/// Numbers of a block.
const BLOCK: usize = 32;

/// Two nibbles to a byte: all the low ones come first.
#[inline(always)]
fn nibbles(bytes: &[u8], numbers: &mut [Eight]) {
    let (low, high) = numbers.split_at_mut(BLOCK / 16);
    for ((bytes, low), high) in eights(bytes).zip(low).zip(high) {
        *low = bytes & each_byte(15);
        *high = bytes >> 4 & each_byte(15);
    }
}

/// Adds the fifth bit of each number; bit `i` of the four bytes is that of number `i`.
#[inline(always)]
fn add_bits(bits: &[u8], numbers: &mut [Eight]) {
    /// Bit `i` of byte `i`.
    const DIAGONAL: Eight = 0x8040_2010_0804_0201;
    for (bits, numbers) in bits.iter().zip(numbers) {
        let spread = (Eight::from(*bits) * each_byte(1)) & DIAGONAL;
        // The highest bit of each byte that is not 0, moved to the fifth.
        *numbers |= ((spread + each_byte(127)) >> 3) & each_byte(16);
    }
}

macro_rules! format {
    ($name:ident, $bytes:expr, $offsets:expr, $base:expr, |$block:ident, $numbers:ident, $offset:ident| $read:block) => {
        pub(super) struct $name;

        impl Format for $name {
            const BYTES: usize = $bytes;
            const NUMBERS: usize = BLOCK;
            const GROUP: usize = BLOCK;
            const OFFSETS: bool = $offsets;
            const BASE: f32 = $base;

            #[inline(always)]
            fn read(block: &[u8], numbers: &mut [Eight], scales: &mut [f32], offsets: &mut [f32]) {
                let ($block, $numbers) = (&block[..$bytes], &mut numbers[..BLOCK / 8]);
                scales[0] = half($block);
                let $offset = &mut offsets[0];
                $read
            }
        }
    };
}

format!(Q4_0, 18, false, 8.0, |block, numbers, _offset| { nibbles(&block[2..], numbers) });

format!(Q4_1, 20, true, 0.0, |block, numbers, offset| {
    *offset = half(&block[2..]);
    nibbles(&block[4..], numbers);
});

format!(Q5_0, 22, false, 16.0, |block, numbers, _offset| {
    nibbles(&block[6..], numbers);
    add_bits(&block[2..6], numbers);
});

format!(Q5_1, 24, true, 0.0, |block, numbers, offset| {
    *offset = half(&block[2..]);
    nibbles(&block[8..], numbers);
    add_bits(&block[4..8], numbers);
});

format!(Q8_0, 34, false, 0.0, |block, numbers, _offset| {
    numbers.iter_mut().zip(eights(&block[2..])).for_each(|(numbers, bytes)| *numbers = bytes);
});
