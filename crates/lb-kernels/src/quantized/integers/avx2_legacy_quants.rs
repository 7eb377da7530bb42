//! Blocks of 32 numbers, four at a time, in AVX2's vectors.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

use core::arch::x86_64::{
    __m256, __m256i, _mm_cvtsi64_si128, _mm_set_epi64x, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_cvtph_ps,
    _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi8, _mm256_setzero_ps, _mm256_shuffle_epi8,
    _mm256_srli_epi16, _mm256_xor_si256,
};

use super::avx2_blocks::{Blocks, Lanes, Unit, fours, load, load_16};
use super::scales::{four_halves, four_words};

/// Scales of four blocks.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn scales<const BYTES: usize>(blocks: &[u8]) -> __m256 {
    _mm256_cvtph_ps(_mm_cvtsi64_si128(four_halves::<BYTES>(blocks, 0).cast_signed()))
}

/// Scale and offset of each of four blocks.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn offsets<const BYTES: usize>(blocks: &[u8]) -> __m256 {
    let [a, b] = four_words::<BYTES>(blocks).map(u64::cast_signed);
    _mm256_cvtph_ps(_mm_set_epi64x(b, a))
}

/// Sixteen bytes of each of two blocks, twice.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn sixteen<const BYTES: usize>(blocks: &[u8], at: usize) -> [__m256i; 2] {
    let pair = |block: usize| {
        let (a, b) = (block * BYTES + at, (block + 1) * BYTES + at);
        _mm256_set_m128i(load_16(blocks, b), load_16(blocks, a))
    };
    [pair(0), pair(2)]
}

/// Nibbles of four blocks: the first sixteen numbers of each, and the others.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn nibbles<const BYTES: usize>(blocks: &[u8], at: usize) -> [[__m256i; 2]; 2] {
    let ([a, b], mask) = (sixteen::<BYTES>(blocks, at), _mm256_set1_epi8(15));
    let high = |x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), mask);
    [[_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)], [high(a), high(b)]]
}

/// Adds 16 where one of the 32 bits `at` so many bytes from the start of a block is set.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn with_bits<const BYTES: usize>(numbers: [[__m256i; 2]; 2], blocks: &[u8], at: usize) -> [[__m256i; 2]; 2] {
    let five = _mm256_set1_epi8(16);
    let which = load(&[0x8040_2010_0804_0201_u64; 4], 0);
    let mut all = numbers;
    for (vector, numbers) in all.iter_mut().enumerate() {
        // Two bytes for each of four blocks.
        let bits = four_halves::<BYTES>(blocks, at + 2 * vector).cast_signed();
        let bits = _mm256_set_m128i(_mm_cvtsi64_si128(bits), _mm_cvtsi64_si128(bits));
        for (half, numbers) in numbers.iter_mut().enumerate() {
            let first = if half == 0 { 0 } else { 0x0404_0404_0404_0404 };
            // Each byte goes to the eight numbers that its bits are of.
            let places = [0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303_i64];
            let places = load(&places.map(|place| place + first), 0);
            let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, places), which);
            let set = _mm256_and_si256(_mm256_cmpeq_epi8(bits, which), five);
            *numbers = _mm256_or_si256(*numbers, set);
        }
    }
    all
}

macro_rules! blocks {
    ($name:ident, $block:expr, eight bits: $eight:expr, |$x:ident| $numbers:expr) => {
        blocks!($name, $block, true, $eight, None, [fours(0, 1), fours(2, 3)], scales, |$x| $numbers);
    };
    ($name:ident, $block:expr, offsets, |$x:ident| $numbers:expr) => {
        blocks!(
            $name,
            $block,
            false,
            false,
            Some([0, -1, 0, -1, 0, -1, 0, -1]),
            [fours(0, 2), fours(4, 6)],
            offsets,
            |$x| $numbers
        );
    };
    (
        $name:ident, $block:expr, $base:expr, $eight:expr, $offsets:expr, $lanes:expr, $scales:ident,
        |$x:ident| $numbers:expr
    ) => {
        pub(super) struct $name;

        impl Blocks<1> for $name {
            const BYTES: usize = 4 * $block;
            const BASE: bool = $base;
            const EIGHT_BITS: bool = $eight;
            const TABLES: usize = 1;
            const OFFSETS: Option<[i32; 8]> = $offsets;
            const LANES: [[Lanes; 2]; 1] = {
                let [first, second] = $lanes;
                [[(0, first), (0, second)]]
            };

            #[inline]
            #[target_feature(enable = "avx2,f16c,fma")]
            unsafe fn read($x: &[u8]) -> Unit<1> {
                let $x = &$x[..Self::BYTES];
                Unit { numbers: [$numbers], scales: [$scales::<$block>($x), _mm256_setzero_ps()] }
            }
        }
    };
}

blocks!(Q4_0, 18, eight bits: false, |x| nibbles::<18>(x, 2));
blocks!(Q4_1, 20, offsets, |x| nibbles::<20>(x, 4));
blocks!(Q5_0, 22, eight bits: false, |x| with_bits::<22>(nibbles::<22>(x, 6), x, 2));
blocks!(Q5_1, 24, offsets, |x| with_bits::<24>(nibbles::<24>(x, 8), x, 4));
blocks!(Q8_0, 34, eight bits: true, |x| {
    let (mut numbers, flip) = ([sixteen::<34>(x, 2), sixteen::<34>(x, 18)], _mm256_set1_epi8(-128));
    for half in numbers.as_flattened_mut() {
        *half = _mm256_xor_si256(*half, flip);
    }
    numbers
});
