//! Blocks of 256 numbers (ggml's K quants), in AVX-512's vectors.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]

use core::arch::x86_64::{
    __m512, __m512i, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_set_epi64x, _mm_unpackhi_epi64, _mm_unpacklo_epi8,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_broadcastss_ps, _mm512_castps128_ps512,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_loadu_si512, _mm512_mask_add_epi8,
    _mm512_mul_ps, _mm512_permutexvar_epi64, _mm512_permutexvar_ps, _mm512_set1_epi8, _mm512_setr_epi64,
    _mm512_shuffle_i64x2, _mm512_slli_epi16, _mm512_sllv_epi16, _mm512_srli_epi16, _mm512_srlv_epi16,
    _mm512_ternarylogic_epi32, _mm512_test_epi8_mask, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::avx512_blocks::{Blocks, Unit, fours, load_16, load_64};
use super::scales::sixes;

/// Two halves, each for every second four lanes.
const HALVES: [i32; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1];

/// Eight scales and eight minima of six bits each, as [`factors`](super::rounded) has them: four of each in turn.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn scales(block: &[u8]) -> __m512 {
    let [four, others] = sixes(block).map(u64::cast_signed);
    let small = _mm512_cvtepu8_epi32(_mm_set_epi64x(others, four));
    let halves = i32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    let halves = _mm_cvtph_ps(_mm_cvtsi32_si128(halves));
    // SAFETY: sixteen integers are there.
    let which = unsafe { _mm512_loadu_si512(HALVES.as_ptr().cast()) };
    let halves = _mm512_permutexvar_ps(which, _mm512_castps128_ps512(halves));
    _mm512_mul_ps(_mm512_cvtepi32_ps(small), halves)
}

/// Where [`scales`] has those of even groups, and of odd ones.
const IN_FOURS: [[i32; 16]; 2] = [fours([0, 2, 8, 10]), fours([1, 3, 9, 11])];
/// And offsets.
const MINIMA: u16 = 0xf0f0;

/// The first 16 of every 32 bytes, and the other ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
fn halves(bytes: &[u8]) -> [__m512i; 2] {
    let (a, b) = (load_64(bytes), load_64(&bytes[64..]));
    [_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b), _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b)]
}

pub(super) struct Q4K;

impl Blocks<2> for Q4K {
    const BYTES: usize = 144;
    const EIGHT_BITS: bool = false;
    const BASE: bool = false;
    const OFFSETS: u16 = MINIMA;
    const LANES: [[i32; 16]; 2] = IN_FOURS;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        let (both, low) = (halves(&block[16..144]), _mm512_set1_epi8(15));
        let mut numbers = [both; 2];
        for half in 0..2 {
            numbers[0][half] = _mm512_and_si512(both[half], low);
            numbers[1][half] = _mm512_and_si512(_mm512_srli_epi16::<4>(both[half]), low);
        }
        Unit { numbers, scales: scales(block) }
    }
}

pub(super) struct Q5K;

impl Blocks<2> for Q5K {
    const BYTES: usize = 176;
    const EIGHT_BITS: bool = false;
    const BASE: bool = false;
    const OFFSETS: u16 = MINIMA;
    const LANES: [[i32; 16]; 2] = IN_FOURS;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        let (low, five) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
        // A bit of each byte for every group.
        let even = _mm512_setr_epi64(
            0x0101_0101_0101_0101,
            0x0101_0101_0101_0101,
            0x0404_0404_0404_0404,
            0x0404_0404_0404_0404,
            0x1010_1010_1010_1010,
            0x1010_1010_1010_1010,
            0x4040_4040_4040_4040,
            0x4040_4040_4040_4040,
        );
        let odd = _mm512_slli_epi16::<1>(even);
        let nibbles = halves(&block[48..176]);
        let mut numbers = [nibbles; 2];
        for half in 0..2 {
            let bits = _mm512_broadcast_i32x4(load_16(&block[16 + 16 * half..]));
            let (a, b) = (
                _mm512_and_si512(nibbles[half], low),
                _mm512_and_si512(_mm512_srli_epi16::<4>(nibbles[half]), low),
            );
            numbers[0][half] = _mm512_mask_add_epi8(a, _mm512_test_epi8_mask(bits, even), a, five);
            numbers[1][half] = _mm512_mask_add_epi8(b, _mm512_test_epi8_mask(bits, odd), b, five);
        }
        Unit { numbers, scales: scales(block) }
    }
}

pub(super) struct Q6K;

impl Blocks<2> for Q6K {
    const BYTES: usize = 210;
    const EIGHT_BITS: bool = false;
    const BASE: bool = true;
    const OFFSETS: u16 = 0;
    const LANES: [[i32; 16]; 2] = [
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7],
        [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15],
    ];

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
    unsafe fn read(block: &[u8]) -> Unit<2> {
        let (low, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        // Eight bytes of the first half of the block, then eight of the second.
        let (a, b) = (load_64(block), load_64(&block[64..]));
        let nibbles = [_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)];
        let pairs = load_64(&block[128..]);
        let pairs = [
            _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 2, 6, 0, 4, 2, 6), pairs),
            _mm512_permutexvar_epi64(_mm512_setr_epi64(1, 5, 3, 7, 1, 5, 3, 7), pairs),
        ];
        // Pairs of bits are moved above nibbles.
        let up = _mm512_setr_epi64(
            0x0004_0004_0004_0004,
            0x0004_0004_0004_0004,
            0x0004_0004_0004_0004,
            0x0004_0004_0004_0004,
            0x0002_0002_0002_0002,
            0x0002_0002_0002_0002,
            0x0002_0002_0002_0002,
            0x0002_0002_0002_0002,
        );
        let down = _mm512_setr_epi64(
            0,
            0,
            0,
            0,
            0x0002_0002_0002_0002,
            0x0002_0002_0002_0002,
            0x0002_0002_0002_0002,
            0x0002_0002_0002_0002,
        );
        let mut numbers = [nibbles; 2];
        for half in 0..2 {
            let (first, second) = (_mm512_sllv_epi16(pairs[half], up), _mm512_srlv_epi16(pairs[half], down));
            // A nibble where `low` is set, the pair elsewhere.
            numbers[0][half] =
                _mm512_ternarylogic_epi32::<0xca>(low, nibbles[half], _mm512_and_si512(first, two));
            numbers[1][half] = _mm512_ternarylogic_epi32::<0xca>(
                low,
                _mm512_srli_epi16::<4>(nibbles[half]),
                _mm512_and_si512(second, two),
            );
        }
        let small = load_16(&block[192..]);
        let small = _mm_unpacklo_epi8(small, _mm_unpackhi_epi64(small, small));
        let small = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(small));
        let half = i32::from(u16::from_le_bytes([block[208], block[209]]));
        let half = _mm_cvtph_ps(_mm_cvtsi32_si128(half));
        Unit { numbers, scales: _mm512_mul_ps(small, _mm512_broadcastss_ps(half)) }
    }
}
