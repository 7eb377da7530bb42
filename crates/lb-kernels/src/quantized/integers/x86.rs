//! AVX-512 VNNI.

#![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]
#![allow(clippy::unused_self, reason = "`self` is the proof of that check")]

use core::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, __m512i, _mm_and_si128, _mm_loadu_si128, _mm_set1_epi8, _mm_srli_epi16,
    _mm256_and_si256, _mm256_castsi128_si256, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_fmadd_ps,
    _mm256_inserti128_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm512_add_epi8, _mm512_and_si512, _mm512_broadcast_i64x4, _mm512_castps256_ps512,
    _mm512_castsi256_si512, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_add_epi8, _mm512_mask_blend_ps,
    _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_ps, _mm512_reduce_add_ps, _mm512_set1_epi8,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srli_epi16, _mm512_srlv_epi16, _mm512_sub_epi32, _mm512_test_epi8_mask,
};

use super::super::{QuantFormat, QuantizedSlice, half, k_quants::sixes};
use super::rounded::{CHUNK, Chunk, Rounded, Rows, SCALED, step};

/// Rows of activations that meet what was unpacked of a weight at once: as many sums as fit the registers.
const AT_ONCE: usize = 8;

/// Proof that the machine sums products of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integers(());

impl Integers {
    /// `None` on a machine without AVX-512 VNNI, for formats that have no such product, and for rows that are no whole
    /// number of steps.
    pub(crate) fn detect(kind: QuantFormat, columns: usize) -> Option<Self> {
        let detected = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        (detected && step(kind).is_some_and(|step| columns.is_multiple_of(step))).then_some(Self(()))
    }

    /// `x`, `[tokens, columns]`, to meet weights of `kind`.
    pub(crate) fn round(self, x: &[f32], columns: usize, kind: QuantFormat) -> Rounded {
        Rounded::new(x, columns, kind)
    }

    /// Rows of activations against rows of blocks: `out` is `[rows, tokens]`. Each row of blocks is read from memory once.
    ///
    /// # Numerics
    ///
    /// f32 sums over exact products of integers. A row's result is the same, to the bit, in whatever company it comes.
    pub(crate) fn gemv(self, x: &Rounded, weight: QuantizedSlice<'_>, out: &mut [f32]) {
        let tokens = x.chunks.len() / x.width;
        let row_bytes = x.width * CHUNK / weight.kind.numbers() * weight.kind.bytes();
        let rows = weight.bytes.chunks_exact(row_bytes);
        for (row, out) in rows.zip(out.chunks_exact_mut(tokens)) {
            for (part, out) in out.chunks_mut(AT_ONCE).enumerate() {
                let (kind, x) = (weight.kind, x.from(part * AT_ONCE));
                // SAFETY: `self` exists only where `detect` has found the features.
                unsafe {
                    match out.len() {
                        1 => of_tokens::<1>(kind, row, x, out),
                        2 => of_tokens::<2>(kind, row, x, out),
                        3 => of_tokens::<3>(kind, row, x, out),
                        4 => of_tokens::<4>(kind, row, x, out),
                        5 => of_tokens::<5>(kind, row, x, out),
                        6 => of_tokens::<6>(kind, row, x, out),
                        7 => of_tokens::<7>(kind, row, x, out),
                        _ => of_tokens::<AT_ONCE>(kind, row, x, out),
                    }
                }
            }
        }
    }
}

/// Sums of one row for each token: of products, and of offsets.
struct Sums<const T: usize> {
    products: [__m512; T],
    offsets: [__m256; T],
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn of_tokens<const T: usize>(kind: QuantFormat, row: &[u8], x: Rows<'_>, out: &mut [f32]) {
    match kind {
        QuantFormat::Q4_0 => legacy::<T, 18, false>(row, x, out, q4_0),
        QuantFormat::Q4_1 => legacy::<T, 20, true>(row, x, out, q4_1),
        QuantFormat::Q5_0 => legacy::<T, 22, false>(row, x, out, q5_0),
        QuantFormat::Q5_1 => legacy::<T, 24, true>(row, x, out, q5_1),
        QuantFormat::Q8_0 => legacy::<T, 34, false>(row, x, out, q8_0),
        QuantFormat::Q4K => offset_blocks::<T, 144>(row, x, out),
        QuantFormat::Q5K => offset_blocks::<T, 176>(row, x, out),
        QuantFormat::Q6K => q6k::<T>(row, x, out),
        QuantFormat::Q2K | QuantFormat::Q3K => {}
    }
}

/// Adds the products of 64 weights, unsigned bytes, under their scales by lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn add<const T: usize>(
    sums: &mut [__m512; T],
    numbers: __m512i,
    scales: __m512,
    x: &[&[Chunk]; T],
    at: usize,
) {
    for (sum, x) in sums.iter_mut().zip(x) {
        let Chunk { high, middle, low, scales: own, base } = &x[at];
        let whole = _mm512_dpbusd_epi32(_mm512_setzero_si512(), numbers, bytes(high));
        let whole = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(whole), numbers, bytes(middle));
        let whole = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(whole), numbers, bytes(low));
        // SAFETY: sixteen integers, and sixteen numbers, are there.
        let (base, own) =
            unsafe { (_mm512_loadu_si512(base.as_ptr().cast()), _mm512_loadu_ps(own.as_ptr())) };
        let whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(whole, base));
        *sum = _mm512_fmadd_ps(whole, _mm512_mul_ps(scales, own), *sum);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn bytes(x: &[i8; CHUNK]) -> __m512i {
    // SAFETY: sixty-four bytes are there.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn load_32(x: &[u8]) -> __m256i {
    assert!(x.len() >= 32);
    // SAFETY: thirty-two bytes are there.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn load_16(x: &[u8]) -> __m128i {
    assert!(x.len() >= 16);
    // SAFETY: sixteen bytes are there.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn pair(low: __m256i, high: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// The row in `x` of each token.
fn rows<const T: usize>(x: Rows<'_>) -> ([&[Chunk]; T], [&[f32]; T]) {
    let sums = if x.sums.is_empty() { 0 } else { x.width * CHUNK / SCALED };
    (
        std::array::from_fn(|t| &x.chunks[t * x.width..][..x.width]),
        std::array::from_fn(|t| &x.sums[t * sums..][..sums]),
    )
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn finish<const T: usize>(sums: &Sums<T>, out: &mut [f32]) {
    for (out, (products, offsets)) in out.iter_mut().zip(sums.products.iter().zip(&sums.offsets)) {
        let mut rest = [0f32; 8];
        // SAFETY: eight places are there.
        unsafe { _mm256_storeu_ps(rest.as_mut_ptr(), *offsets) };
        *out = _mm512_reduce_add_ps(*products) + rest.iter().sum::<f32>();
    }
}

/// Two blocks of 32 numbers at a time, each with one scale and perhaps one offset behind it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn legacy<const T: usize, const BYTES: usize, const OFFSETS: bool>(
    row: &[u8],
    x: Rows<'_>,
    out: &mut [f32],
    numbers: unsafe fn(&[u8; BYTES], &[u8; BYTES]) -> __m512i,
) {
    let (chunks, of_x) = rows::<T>(x);
    let mut sums = Sums { products: [_mm512_setzero_ps(); T], offsets: [_mm256_setzero_ps(); T] };
    let mut offsets = [0f32; T];
    for (at, [a, b]) in row.as_chunks::<BYTES>().0.as_chunks::<2>().0.iter().enumerate() {
        let scales = _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(half(a)), _mm512_set1_ps(half(b)));
        // SAFETY: the features are those of this function.
        add(&mut sums.products, unsafe { numbers(a, b) }, scales, &chunks, at);
        if OFFSETS {
            let (a, b) = (half(&a[2..]), half(&b[2..]));
            for (offset, of_x) in offsets.iter_mut().zip(&of_x) {
                *offset += a * of_x[2 * at] + b * of_x[2 * at + 1];
            }
        }
    }
    finish(&sums, out);
    for (out, offset) in out.iter_mut().zip(offsets) {
        *out += offset;
    }
}

/// The nibbles of sixteen bytes, all the low ones first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn nibbles(x: &[u8]) -> __m256i {
    let (x, mask) = (load_16(x), _mm_set1_epi8(15));
    let high = _mm_and_si128(_mm_srli_epi16::<4>(x), mask);
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(_mm_and_si128(x, mask)), high)
}

/// Adds 16 where a bit is set.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn with_bits(numbers: __m512i, a: &[u8], b: &[u8]) -> __m512i {
    let bits = |x: &[u8]| u64::from(u32::from_le_bytes([x[0], x[1], x[2], x[3]]));
    _mm512_mask_add_epi8(numbers, bits(a) | bits(b) << 32, numbers, _mm512_set1_epi8(16))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn q4_0(a: &[u8; 18], b: &[u8; 18]) -> __m512i {
    pair(nibbles(&a[2..]), nibbles(&b[2..]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn q4_1(a: &[u8; 20], b: &[u8; 20]) -> __m512i {
    pair(nibbles(&a[4..]), nibbles(&b[4..]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn q5_0(a: &[u8; 22], b: &[u8; 22]) -> __m512i {
    with_bits(pair(nibbles(&a[6..]), nibbles(&b[6..])), &a[2..], &b[2..])
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn q5_1(a: &[u8; 24], b: &[u8; 24]) -> __m512i {
    with_bits(pair(nibbles(&a[8..]), nibbles(&b[8..])), &a[4..], &b[4..])
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn q8_0(a: &[u8; 34], b: &[u8; 34]) -> __m512i {
    _mm512_add_epi8(pair(load_32(&a[2..]), load_32(&b[2..])), _mm512_set1_epi8(-128))
}

/// Which scale each lane has, of those of a block, in the chunk of this number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn lanes(group: i32, chunk: i32) -> __m512i {
    let of = |lane: i32| (64 * chunk + 4 * lane) / group;
    _mm512_setr_epi32(
        of(0),
        of(1),
        of(2),
        of(3),
        of(4),
        of(5),
        of(6),
        of(7),
        of(8),
        of(9),
        of(10),
        of(11),
        of(12),
        of(13),
        of(14),
        of(15),
    )
}

/// Q4_K (144 bytes) and Q5_K (176).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn offset_blocks<const T: usize, const BYTES: usize>(row: &[u8], x: Rows<'_>, out: &mut [f32]) {
    let (chunks, of_x) = rows::<T>(x);
    let mut sums = Sums { products: [_mm512_setzero_ps(); T], offsets: [_mm256_setzero_ps(); T] };
    let five = BYTES == 176;
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let (six, minima) = sixes(&block[4..16]);
        let scales = _mm256_mul_ps(eight(six), _mm256_set1_ps(half(block)));
        let scales = _mm512_castps256_ps512(scales);
        let offsets = _mm256_mul_ps(eight(minima), _mm256_set1_ps(-half(&block[2..])));
        for (sum, of_x) in sums.offsets.iter_mut().zip(&of_x) {
            let of_x: &[f32] = &of_x[8 * index..8 * index + 8];
            // SAFETY: eight numbers are there.
            *sum = _mm256_fmadd_ps(offsets, unsafe { _mm256_loadu_ps(of_x.as_ptr()) }, *sum);
        }
        let (low, high) = if five { (48, 16) } else { (16, 0) };
        for (part, chunk) in (0..4).enumerate() {
            let both = load_32(&block[low + 32 * part..]);
            let mask = _mm256_set1_epi8(15);
            let mut numbers =
                pair(_mm256_and_si256(both, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask));
            if five {
                let bits = _mm512_broadcast_i64x4(load_32(&block[high..]));
                let (first, second) = (1i8 << (2 * part), (2u8 << (2 * part)).cast_signed());
                let which = pair(_mm256_set1_epi8(first), _mm256_set1_epi8(second));
                let set = _mm512_test_epi8_mask(bits, which);
                numbers = _mm512_mask_add_epi8(numbers, set, numbers, _mm512_set1_epi8(16));
            }
            let scales = _mm512_permutexvar_ps(lanes(32, chunk), scales);
            add(&mut sums.products, numbers, scales, &chunks, 4 * index + part);
        }
    }
    finish(&sums, out);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn eight(x: [u8; 8]) -> __m256 {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&x);
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_16(&bytes)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn q6k<const T: usize>(row: &[u8], x: Rows<'_>, out: &mut [f32]) {
    let (chunks, _) = rows::<T>(x);
    let mut sums = Sums { products: [_mm512_setzero_ps(); T], offsets: [_mm256_setzero_ps(); T] };
    for (index, block) in row.as_chunks::<210>().0.iter().enumerate() {
        let scales = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(&block[192..208])));
        let scales = _mm512_mul_ps(scales, _mm512_set1_ps(half(&block[208..])));
        for (part, chunk) in (0..4).enumerate() {
            // Each half of the block has 64 bytes of nibbles, the low ones first, and 32 of pairs of bits.
            let (of_half, odd) = (part / 2, part % 2 == 1);
            let nibbles: &[u8; 64] = block[64 * of_half..].first_chunk().unwrap_or(&[0; 64]);
            // SAFETY: sixty-four bytes are there.
            let nibbles = unsafe { _mm512_loadu_si512(nibbles.as_ptr().cast()) };
            let nibbles = if odd { _mm512_srli_epi16::<4>(nibbles) } else { nibbles };
            let pairs = _mm512_broadcast_i64x4(load_32(&block[128 + 32 * of_half..]));
            let shifts = if odd { [4, 6] } else { [0, 2] };
            let by = pair(_mm256_set1_epi16(shifts[0]), _mm256_set1_epi16(shifts[1]));
            let pairs = _mm512_and_si512(_mm512_srlv_epi16(pairs, by), _mm512_set1_epi8(3));
            let numbers = _mm512_or_si512(
                _mm512_and_si512(nibbles, _mm512_set1_epi8(15)),
                _mm512_slli_epi16::<4>(pairs),
            );
            let scales = _mm512_permutexvar_ps(lanes(16, chunk), scales);
            add(&mut sums.products, numbers, scales, &chunks, 4 * index + part);
        }
    }
    finish(&sums, out);
}

const _: () = assert!(CHUNK == 64 && size_of::<Chunk>().is_multiple_of(64));
