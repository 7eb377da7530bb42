//! The same loop in bf16: AVX-512's dot products of pairs, twice the speed of f32 on half the memory. ARM's are in
//! `microkernel_bf16_neon.rs`.
//!
//! The standard library has these instructions, and no crate we know has a product made of them. These two and
//! `quantized/integers/` are the library's modules of intrinsics; [`microkernel`](super::microkernel) is its portable twin, and tests hold the two together.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) use none::Bf16Microkernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Bf16Microkernel;

#[cfg(target_arch = "aarch64")]
pub(crate) use super::microkernel_bf16_neon::Bf16Microkernel;

/// Two bf16 numbers, the first in the low half.
pub(crate) type Bf16Pair = u32;

/// f32 numbers as sums of three bf16 ones, the largest first.
pub(crate) type Parts<'a> = [&'a [u16]; 3];

/// Splits f32 numbers into three bf16 parts, which together have all their bits.
pub(crate) fn split_bf16(x: &[f32]) -> [Vec<u16>; 3] {
    let mut parts = [const { Vec::new() }; 3];
    let mut rest = x.to_vec();
    for part in &mut parts {
        let take = |x: &mut f32| {
            let bits = half::bf16::from_f32(*x);
            *x -= bits.to_f32();
            bits.to_bits()
        };
        *part = rest.iter_mut().map(take).collect();
    }
    parts
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_code, reason = "intrinsics, behind a check that the machine has them")]
    #![allow(clippy::unused_self, reason = "`self` is the proof of that check")]

    use core::arch::x86_64::{
        __m256bh, __m256i, __m512, __m512bh, __m512i, _mm_loadu_si128, _mm256_storeu_si256, _mm512_add_ps,
        _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh,
        _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_or_si512,
        _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
        _mm512_storeu_ps, _mm512_storeu_si512,
    };

    use super::{Bf16Pair, Parts};
    use crate::microkernel::{MatrixView, PanelRow};
    use crate::prefetch::Prefetch;

    /// Numbers in a vector of f32.
    const LANES: usize = 16;

    /// Proof that the machine multiplies bf16.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Bf16Microkernel(());

    impl Bf16Microkernel {
        /// `None` on a machine without AVX-512 BF16.
        pub(crate) fn detect() -> Option<Self> {
            let detected = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
            detected.then_some(Self(()))
        }

        /// `out[r][c] += Σ_k rows[r][k] · panel[k][c]` for the first `used` columns, and any numbers in the others.
        ///
        /// `rows` are bf16; a step of k is one pair, two numbers that lie side by side.
        ///
        /// # Numerics
        ///
        /// Products exact, sums in f32; subnormal numbers count as 0.
        ///
        /// `next` is prefetched meanwhile.
        pub(crate) fn matmul_panel(
            self,
            rows: MatrixView<'_, u16>,
            panel: &[PanelRow<Bf16Pair>],
            used: usize,
            out: &mut [PanelRow<f32>],
            next: &[u16],
        ) {
            let prefetch = Prefetch::new(next, rows.count.div_ceil(8));
            // SAFETY: `self` exists only where `detect` has found the features.
            unsafe {
                match used.div_ceil(LANES) {
                    3 => all::<3>(rows, panel, out, prefetch),
                    2 => all::<2>(rows, panel, out, prefetch),
                    _ => all::<1>(rows, panel, out, prefetch),
                }
            }
        }

        /// Dot product of bf16 numbers with f32 ones that were [`split`](super::split_bf16).
        ///
        /// # Numerics
        ///
        /// Products exact but for subnormal numbers, sums in f32.
        pub(crate) fn dot(self, row: &[u16], parts: &Parts<'_>) -> f32 {
            // SAFETY: as in `matmul_panel`.
            unsafe { dot(row, parts) }
        }

        /// `out[i]` is the pair of `even[i]` and `odd[i]`, rounded to the nearest bf16.
        pub(crate) fn pairs(self, even: &[f32], odd: &[f32], out: &mut [Bf16Pair]) {
            // SAFETY: as in `matmul_panel`.
            unsafe { round_pairs(even, odd, out) }
        }

        /// Integers times the scale of their group of `GROUP`, 16 or 32, plus its offset, rounded to the nearest bf16; as many as `out`
        /// has room for, a whole number of groups.
        pub(crate) fn scaled<const GROUP: usize>(
            self,
            integers: &[i8; 256],
            scales: &[f32; 16],
            offsets: &[f32; 16],
            out: &mut [u16],
        ) {
            // SAFETY: as in `matmul_panel`.
            unsafe { scaled::<GROUP>(integers, scales, offsets, out) }
        }

        /// `out[i]` is the pair of `even[i]` and `odd[i]`.
        pub(crate) fn interleave(self, even: &[u16], odd: &[u16], out: &mut [Bf16Pair]) {
            // SAFETY: as in `matmul_panel`.
            unsafe { interleave(even, odd, out) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn load(x: &[f32; LANES]) -> __m512 {
        // SAFETY: sixteen numbers are there.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn store(to: &mut [f32; LANES], x: __m512) {
        // SAFETY: sixteen places are there.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn load_pairs(x: &[Bf16Pair; LANES]) -> __m512i {
        // SAFETY: sixteen pairs are there.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn add_product(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: both are 512 bits without a meaning of their own.
        let [a, b] = unsafe {
            [core::mem::transmute::<__m512i, __m512bh>(a), core::mem::transmute::<__m512i, __m512bh>(b)]
        };
        _mm512_dpbf16_ps(sum, a, b)
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn all<const V: usize>(
        rows: MatrixView<'_, u16>,
        panel: &[PanelRow<Bf16Pair>],
        out: &mut [PanelRow<f32>],
        mut prefetch: Prefetch<'_>,
    ) {
        let mut row = 0;
        while row + 8 <= rows.count {
            prefetch.fetch();
            block::<8, V>(rows, row, panel, out);
            row += 8;
        }
        for row in row..rows.count {
            block::<1, V>(rows, row, panel, out);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn block<const R: usize, const V: usize>(
        rows: MatrixView<'_, u16>,
        row: usize,
        panel: &[PanelRow<Bf16Pair>],
        out: &mut [PanelRow<f32>],
    ) {
        if panel.is_empty() {
            return;
        }
        let MatrixView { row_step, k_step, .. } = rows;
        // The second number of the last pair is one place further on.
        let data = rows.block(row, R, panel.len());
        assert!((R - 1) * row_step + (panel.len() - 1) * k_step + 1 < data.len());
        let out = &mut out[row..row + R];
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for (sums, out) in sums.iter_mut().zip(&*out) {
            for (sum, part) in sums.iter_mut().zip(out.as_chunks::<LANES>().0) {
                *sum = load(part);
            }
        }
        let mut at = 0;
        for line in panel {
            let line: &[[Bf16Pair; LANES]] = line.as_chunks().0;
            let columns: [__m512i; V] = std::array::from_fn(|c| load_pairs(&line[c]));
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the last pair of the last row ends within the data, as was asserted; a check of each is as dear as the product.
                let pair = unsafe { data.as_ptr().add(r * row_step + at).cast::<i32>().read_unaligned() };
                let pair = _mm512_set1_epi32(pair);
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    *sum = add_product(*sum, pair, *column);
                }
            }
            at += k_step;
        }
        for (sums, out) in sums.iter().zip(out) {
            for (sum, part) in sums.iter().zip(out.as_chunks_mut::<LANES>().0) {
                store(part, *sum);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dot(row: &[u16], parts: &Parts<'_>) -> f32 {
        const STEP: usize = 2 * LANES;
        let (twos, rest) = row.as_chunks::<{ 2 * STEP }>();
        let parts_of = parts.map(|part| part.as_chunks::<{ 2 * STEP }>().0);
        // Two sums of each part, so that one addition need not wait for the last.
        let mut sums = [[_mm512_setzero_ps(); 2]; 3];
        for (index, numbers) in twos.iter().enumerate() {
            let (first, second) = numbers.split_at(STEP);
            let (first, second) = (load_bits(first), load_bits(second));
            for (sums, part) in sums.iter_mut().zip(parts_of) {
                let (a, b) = part[index].split_at(STEP);
                sums[0] = add_product(sums[0], first, load_bits(a));
                sums[1] = add_product(sums[1], second, load_bits(b));
            }
        }
        let wide = |bits: u16| f32::from_bits(u32::from(bits) << 16);
        let from = row.len() - rest.len();
        let tail: f32 = parts
            .iter()
            .map(|part| rest.iter().zip(&part[from..]).map(|(a, b)| wide(*a) * wide(*b)).sum::<f32>())
            .sum();
        // The small parts first.
        let [small, middle, large] =
            [2, 1, 0].map(|part| _mm512_reduce_add_ps(_mm512_add_ps(sums[part][0], sums[part][1])));
        small + middle + tail + large
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn load_bits(x: &[u16]) -> __m512i {
        assert!(x.len() == 2 * LANES);
        // SAFETY: thirty-two numbers of 16 bits are there.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn round_pairs(even: &[f32], odd: &[f32], out: &mut [Bf16Pair]) {
        let ((even, even_rest), (odd, odd_rest)) = (even.as_chunks(), odd.as_chunks());
        let (out, out_rest) = out.as_chunks_mut::<LANES>();
        for ((even, odd), out) in even.iter().zip(odd).zip(out) {
            store_pairs(out, pair_up(load(even), load(odd)));
        }
        if !out_rest.is_empty() {
            let (mut a, mut b, mut pairs) = ([0f32; LANES], [0f32; LANES], [0; LANES]);
            a[..even_rest.len()].copy_from_slice(even_rest);
            b[..odd_rest.len()].copy_from_slice(odd_rest);
            store_pairs(&mut pairs, pair_up(load(&a), load(&b)));
            let count = out_rest.len();
            out_rest.copy_from_slice(&pairs[..count]);
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn scaled<const GROUP: usize>(
        integers: &[i8; 256],
        scales: &[f32; 16],
        offsets: &[f32; 16],
        out: &mut [u16],
    ) {
        const { assert!(GROUP == LANES || GROUP == 2 * LANES) };
        let integers = integers.as_chunks::<LANES>().0;
        for (index, (integers, out)) in integers.iter().zip(out.as_chunks_mut::<LANES>().0).enumerate() {
            let group = index * LANES / GROUP;
            let (scale, offset) = (_mm512_set1_ps(scales[group]), _mm512_set1_ps(offsets[group]));
            // SAFETY: sixteen bytes are there to be read, and sixteen places of two bytes to be written.
            unsafe {
                let wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(integers.as_ptr().cast()));
                let number = _mm512_fmadd_ps(_mm512_cvtepi32_ps(wide), scale, offset);
                let bits = core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(number));
                _mm256_storeu_si256(out.as_mut_ptr().cast(), bits);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pair_up(even: __m512, odd: __m512) -> __m512i {
        // SAFETY: sixteen bf16 are 256 bits.
        let bits = |x| {
            _mm512_cvtepu16_epi32(unsafe { core::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) })
        };
        _mm512_or_si512(bits(even), _mm512_slli_epi32::<16>(bits(odd)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn store_pairs(to: &mut [Bf16Pair; LANES], x: __m512i) {
        // SAFETY: sixteen places are there.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn interleave(even: &[u16], odd: &[u16], out: &mut [Bf16Pair]) {
        for ((even, odd), out) in even.iter().zip(odd).zip(out) {
            *out = u32::from(*even) | u32::from(*odd) << 16;
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod none {
    use super::{Bf16Pair, Parts};
    use crate::microkernel::{MatrixView, PanelRow};

    /// No machine of this kind is known to matmul_panel bf16.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Bf16Microkernel {}

    impl Bf16Microkernel {
        pub(crate) fn detect() -> Option<Self> {
            None
        }

        pub(crate) fn matmul_panel(
            self,
            _: MatrixView<'_, u16>,
            _: &[PanelRow<Bf16Pair>],
            _: usize,
            _: &mut [PanelRow<f32>],
            _: &[u16],
        ) {
            match self {}
        }

        pub(crate) fn dot(self, _: &[u16], _: &Parts<'_>) -> f32 {
            match self {}
        }

        pub(crate) fn pairs(self, _: &[f32], _: &[f32], _: &mut [Bf16Pair]) {
            match self {}
        }

        pub(crate) fn scaled<const GROUP: usize>(
            self,
            _: &[i8; 256],
            _: &[f32; 16],
            _: &[f32; 16],
            _: &mut [u16],
        ) {
            match self {}
        }

        pub(crate) fn interleave(self, _: &[u16], _: &[u16], _: &mut [Bf16Pair]) {
            match self {}
        }
    }
}
