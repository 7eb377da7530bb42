//! Blocks of 256 numbers (ggml's K quants), in AVX2's vectors.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

use core::arch::x86_64::{
    __m256, __m256i, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_shuffle_ps, _mm_srli_si128,
    _mm_unpackhi_epi64, _mm_unpacklo_epi8, _mm256_and_si256, _mm256_broadcastss_ps, _mm256_cmpeq_epi8,
    _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_mul_ps, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_permute4x64_epi64, _mm256_set_m128, _mm256_set1_epi8,
    _mm256_slli_epi16, _mm256_srli_epi16, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};

use super::avx2_blocks::{Blocks, Lanes, Unit, fours, load, load_16};
use super::scales::sixes;

/// Eight scales and eight minima of six bits each, four of each in turn.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn scales(block: &[u8]) -> [__m256; 2] {
    let halves = i32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    let halves = _mm_cvtph_ps(_mm_cvtsi32_si128(halves));
    let halves = _mm256_set_m128(_mm_shuffle_ps::<0x55>(halves, halves), _mm_shuffle_ps::<0>(halves, halves));
    let [four, others] = sixes(block);
    let scaled = |eight: u64| {
        let small = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(eight.cast_signed()));
        _mm256_mul_ps(_mm256_cvtepi32_ps(small), halves)
    };
    [scaled(four), scaled(others)]
}

/// Where [`scales`] has those of even groups, and of odd ones.
const IN_FOURS: [[Lanes; 2]; 2] =
    [[(0, fours(0, 2)), (1, fours(0, 2))], [(0, fours(1, 3)), (1, fours(1, 3))]];
/// And offsets.
const MINIMA: Option<[i32; 8]> = Some(fours(0, -1));

/// Nibbles of 128 bytes: the low ones are those of even groups. Of each step vectors, the first of which has the first 16 of
/// every 32 bytes, and of each vector two halves.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn nibbles(bytes: &[u8]) -> [[[__m256i; 2]; 2]; 2] {
    let low = _mm256_set1_epi8(15);
    let [mut first, mut second] = [[[low; 2]; 2]; 2];
    for half in 0..2 {
        let (a, b) = (load(bytes, 64 * half), load(bytes, 64 * half + 32));
        let both = [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)];
        for ((first, second), both) in first.iter_mut().zip(&mut second).zip(both) {
            first[half] = _mm256_and_si256(both, low);
            second[half] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
        }
    }
    [first, second]
}

pub(super) struct Q4K;

impl Blocks<2> for Q4K {
    const BYTES: usize = 144;
    const BASE: bool = false;
    const EIGHT_BITS: bool = false;
    const TABLES: usize = 2;
    const OFFSETS: Option<[i32; 8]> = MINIMA;
    const LANES: [[Lanes; 2]; 2] = IN_FOURS;

    #[inline]
    #[target_feature(enable = "avx2,f16c,fma")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        Unit { numbers: nibbles(&block[16..144]), scales: scales(block) }
    }
}

pub(super) struct Q5K;

impl Blocks<2> for Q5K {
    const BYTES: usize = 176;
    const BASE: bool = false;
    const EIGHT_BITS: bool = false;
    const TABLES: usize = 2;
    const OFFSETS: Option<[i32; 8]> = MINIMA;
    const LANES: [[Lanes; 2]; 2] = IN_FOURS;

    #[inline]
    #[target_feature(enable = "avx2,f16c,fma")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        let (mut numbers, bits) = (nibbles(&block[48..176]), load(block, 16));
        let five = _mm256_set1_epi8(16);
        let bits = [_mm256_permute4x64_epi64::<0x44>(bits), _mm256_permute4x64_epi64::<0xee>(bits)];
        // A bit of each byte for every group: halves have two of them.
        for (step, numbers) in numbers.iter_mut().enumerate() {
            for (numbers, bits) in numbers.iter_mut().zip(bits) {
                for (half, numbers) in numbers.iter_mut().enumerate() {
                    let first = 1i64 << (4 * half + step);
                    let which = [first, first, 4 * first, 4 * first].map(|bit| bit * 0x0101_0101_0101_0101);
                    let which = load(&which, 0);
                    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, which), which);
                    *numbers = _mm256_or_si256(*numbers, _mm256_and_si256(set, five));
                }
            }
        }
        Unit { numbers, scales: scales(block) }
    }
}

pub(super) struct Q6K;

impl Blocks<2> for Q6K {
    const BYTES: usize = 210;
    const BASE: bool = true;
    const EIGHT_BITS: bool = false;
    const TABLES: usize = 2;
    const OFFSETS: Option<[i32; 8]> = None;
    const LANES: [[Lanes; 2]; 2] = {
        const FIRST: [i32; 8] = [0, 0, 1, 1, 2, 2, 3, 3];
        const SECOND: [i32; 8] = [4, 4, 5, 5, 6, 6, 7, 7];
        [[(0, FIRST), (0, SECOND)], [(1, FIRST), (1, SECOND)]]
    };

    #[inline]
    #[target_feature(enable = "avx2,f16c,fma")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        let (low, two) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        // Eight bytes of the first half of the block, then eight of the second.
        let mixed = |at: usize, other: usize| {
            let (a, b) = (load(block, at), load(block, other));
            [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)]
        };
        let (first, second, pairs) = (mixed(0, 64), mixed(32, 96), mixed(128, 160));
        let mut numbers = [[[low; 2]; 2]; 2];
        for vector in 0..2 {
            let pairs = pairs[vector];
            // Pairs of bits are moved above nibbles.
            let above = [
                [_mm256_slli_epi16::<4>(pairs), _mm256_slli_epi16::<2>(pairs)],
                [pairs, _mm256_srli_epi16::<2>(pairs)],
            ];
            for (half, nibbles) in [first[vector], second[vector]].into_iter().enumerate() {
                for (step, nibbles) in [nibbles, _mm256_srli_epi16::<4>(nibbles)].into_iter().enumerate() {
                    numbers[step][vector][half] = _mm256_or_si256(
                        _mm256_and_si256(nibbles, low),
                        _mm256_and_si256(above[step][half], two),
                    );
                }
            }
        }
        let small = load_16(block, 192);
        let small = _mm_unpacklo_epi8(small, _mm_unpackhi_epi64(small, small));
        let half = i32::from(u16::from_le_bytes([block[208], block[209]]));
        let half = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
        let scaled = |small| _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(small)), half);
        let scales = [scaled(small), scaled(_mm_srli_si128::<8>(small))];
        Unit { numbers, scales }
    }
}
