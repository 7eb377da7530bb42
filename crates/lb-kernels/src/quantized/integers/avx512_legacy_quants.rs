//! Blocks of 32 numbers, four at a time, in AVX-512's vectors.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

use core::arch::x86_64::{
    __m512, __m512i, _mm_cvtph_ps, _mm_cvtsi64_si128, _mm_set_epi64x, _mm256_cvtph_ps, _mm512_and_si512,
    _mm512_castps128_ps512, _mm512_castps256_ps512, _mm512_castsi128_si512, _mm512_inserti32x4,
    _mm512_mask_add_epi8, _mm512_set1_epi8, _mm512_srli_epi16, _mm512_xor_si512,
};

use super::avx512_blocks::{Blocks, Unit, fours, load_16};
use super::scales::{four_halves, four_words};

/// Scales of four blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn scales<const BYTES: usize>(blocks: &[u8]) -> __m512 {
    let halves = _mm_cvtsi64_si128(four_halves::<BYTES>(blocks, 0).cast_signed());
    _mm512_castps128_ps512(_mm_cvtph_ps(halves))
}

/// Scale and offset of each of four blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn offsets<const BYTES: usize>(blocks: &[u8]) -> __m512 {
    let [a, b] = four_words::<BYTES>(blocks).map(u64::cast_signed);
    _mm512_castps256_ps512(_mm256_cvtph_ps(_mm_set_epi64x(b, a)))
}

/// Sixteen bytes of each of four blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn sixteen<const BYTES: usize>(blocks: &[u8], at: usize) -> __m512i {
    let x = _mm512_castsi128_si512(load_16(&blocks[at..]));
    let x = _mm512_inserti32x4::<1>(x, load_16(&blocks[BYTES + at..]));
    let x = _mm512_inserti32x4::<2>(x, load_16(&blocks[2 * BYTES + at..]));
    _mm512_inserti32x4::<3>(x, load_16(&blocks[3 * BYTES + at..]))
}

/// Nibbles of four blocks: the first sixteen numbers of each, and the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn nibbles<const BYTES: usize>(blocks: &[u8], at: usize) -> [__m512i; 2] {
    let (x, low) = (sixteen::<BYTES>(blocks, at), _mm512_set1_epi8(15));
    [_mm512_and_si512(x, low), _mm512_and_si512(_mm512_srli_epi16::<4>(x), low)]
}

/// Adds 16 where one of the 32 bits `at` so many bytes from the start of a block is set.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn with_bits<const BYTES: usize>([a, b]: [__m512i; 2], blocks: &[u8], at: usize) -> [__m512i; 2] {
    let (first, second) = (four_halves::<BYTES>(blocks, at), four_halves::<BYTES>(blocks, at + 2));
    let five = _mm512_set1_epi8(16);
    [_mm512_mask_add_epi8(a, first, a, five), _mm512_mask_add_epi8(b, second, b, five)]
}

macro_rules! blocks {
    ($name:ident, $block:expr, eight bits: $eight:expr, |$x:ident| $numbers:expr) => {
        blocks!($name, $block, true, $eight, 0, [0, 1, 2, 3], scales, |$x| $numbers);
    };
    ($name:ident, $block:expr, offsets, |$x:ident| $numbers:expr) => {
        blocks!($name, $block, false, false, 0xaa, [0, 2, 4, 6], offsets, |$x| $numbers);
    };
    ($name:ident, $block:expr, $base:expr, $eight:expr, $offsets:expr, $lanes:expr, $scales:ident, |$x:ident| $numbers:expr) => {
        pub(super) struct $name;

        impl Blocks<1> for $name {
            const BYTES: usize = 4 * $block;
            const BASE: bool = $base;
            const EIGHT_BITS: bool = $eight;
            const OFFSETS: u16 = $offsets;
            const LANES: [[i32; 16]; 1] = [fours($lanes)];

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
            unsafe fn read($x: &[u8]) -> Unit<1> {
                let $x = &$x[..Self::BYTES];
                Unit { numbers: [$numbers], scales: $scales::<$block>($x) }
            }
        }
    };
}

blocks!(Q4_0, 18, eight bits: false, |x| nibbles::<18>(x, 2));
blocks!(Q4_1, 20, offsets, |x| nibbles::<20>(x, 4));
blocks!(Q5_0, 22, eight bits: false, |x| with_bits::<22>(nibbles::<22>(x, 6), x, 2));
blocks!(Q5_1, 24, offsets, |x| with_bits::<24>(nibbles::<24>(x, 8), x, 4));
blocks!(Q8_0, 34, eight bits: true, |x| {
    let flip = _mm512_set1_epi8(-128);
    [
        _mm512_xor_si512(sixteen::<34>(x, 2), flip),
        _mm512_xor_si512(sixteen::<34>(x, 18), flip),
    ]
});
