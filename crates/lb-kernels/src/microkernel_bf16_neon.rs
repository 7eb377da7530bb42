//! Products of pairs of bf16 on ARM: `bfdot`, twice the products of f32 in an instruction on half the memory.
//!
//! The standard library's intrinsics of it are unstable, so these are instructions in words.

#![allow(unsafe_code, reason = "intrinsics and instructions, behind a check that the machine has them")]
#![allow(clippy::unused_self, reason = "`self` is the proof of that check")]
#![allow(
    clippy::needless_range_loop,
    reason = "loops to constants become no loops, so that vectors stay in registers"
)]

use core::arch::aarch64::{
    float32x4_t, int32x4_t, uint16x4_t, uint32x4_t, vaddq_f32, vaddvq_f32, vcombine_u16, vcvtq_f32_s32,
    vdup_n_u16, vdupq_n_f32, vfmaq_f32, vget_high_s8, vget_high_s16, vget_low_s8, vget_low_s16,
    vld1q_dup_u32, vld1q_f32, vld1q_s8, vld1q_u16, vld1q_u32, vmovl_s8, vmovl_s16, vreinterpretq_u32_u16,
    vst1q_f32, vst1q_u16, vst1q_u32, vzip1_u16, vzip2_u16,
};
use core::arch::asm;

use crate::microkernel::{MatrixView, PANEL, PanelRow};
use crate::microkernel_bf16::{Bf16Pair, Parts};
use crate::prefetch::Prefetch;

/// Numbers in a vector of f32, or pairs in one of bf16.
const LANES: usize = 4;
/// Vectors of columns whose sums stay in registers, of each of [`ROWS`]: half a panel.
const VECTORS: usize = PANEL / LANES / 2;
/// Rows at a time.
const ROWS: usize = 4;

/// Proof that the machine multiplies bf16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16Microkernel(());

impl Bf16Microkernel {
    /// `None` on a machine without the instructions for bf16.
    pub(crate) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("bf16").then_some(Self(()))
    }

    /// `out[r][c] += Σ_k rows[r][k] · panel[k][c]` for the first `used` columns, and any numbers in the others.
    ///
    /// `rows` are bf16; a step of k is one pair, two numbers that lie side by side.
    ///
    /// # Numerics
    ///
    /// Products exact, sums in f32, rounded to the odd neighbour; subnormal numbers count as 0.
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
        unsafe { all(rows, panel, used, out, prefetch) }
    }

    /// Dot product of bf16 numbers with f32 ones that were [`split`](crate::microkernel_bf16::split_bf16).
    ///
    /// # Numerics
    ///
    /// As in [`matmul_panel`](Self::matmul_panel).
    pub(crate) fn dot(self, row: &[u16], parts: &Parts<'_>) -> f32 {
        // SAFETY: as in `matmul_panel`.
        unsafe { dot(row, parts) }
    }

    /// `out[i]` is the pair of `even[i]` and `odd[i]`, rounded to the nearest bf16.
    pub(crate) fn pairs(self, even: &[f32], odd: &[f32], out: &mut [Bf16Pair]) {
        // SAFETY: as in `matmul_panel`.
        unsafe { round_pairs(even, odd, out) }
    }

    /// Numbers rounded to the nearest bf16, as many as there are places: ties go to the even number.
    pub(crate) fn round(self, from: &[f32], to: &mut [u16]) {
        let count = from.len().min(to.len());
        let (from, to) = (&from[..count], &mut to[..count]);
        // SAFETY: as in `matmul_panel`.
        unsafe { round(from, to) }
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
        for ((even, odd), out) in even.iter().zip(odd).zip(out) {
            *out = u32::from(*even) | u32::from(*odd) << 16;
        }
    }
}

#[inline]
#[target_feature(enable = "neon,bf16")]
fn load(x: &[f32; LANES]) -> float32x4_t {
    // SAFETY: four numbers are there.
    unsafe { vld1q_f32(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon,bf16")]
fn store(to: &mut [f32; LANES], x: float32x4_t) {
    // SAFETY: four places are there.
    unsafe { vst1q_f32(to.as_mut_ptr(), x) }
}

/// Adds two products to each sum.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn add_product(mut sums: float32x4_t, a: uint32x4_t, b: uint32x4_t) -> float32x4_t {
    // SAFETY: the instruction is one of this function's features; it changes nothing but `sums`.
    unsafe {
        asm!(
            "bfdot {sums:v}.4s, {a:v}.8h, {b:v}.8h",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// The nearest bf16 of each number.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn narrow(x: float32x4_t) -> uint16x4_t {
    let mut bits = vdup_n_u16(0);
    // SAFETY: as in `add_product`.
    unsafe {
        asm!(
            "bfcvtn {bits:v}.4h, {x:v}.4s",
            bits = inlateout(vreg) bits,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    bits
}

#[target_feature(enable = "neon,bf16")]
fn all(
    rows: MatrixView<'_, u16>,
    panel: &[PanelRow<Bf16Pair>],
    used: usize,
    out: &mut [PanelRow<f32>],
    mut prefetch: Prefetch<'_>,
) {
    let mut row = 0;
    while row + ROWS <= rows.count {
        if row.is_multiple_of(8) {
            prefetch.fetch();
        }
        block::<ROWS>(rows, row, panel, used, out);
        row += ROWS;
    }
    for row in row..rows.count {
        block::<1>(rows, row, panel, used, out);
    }
}

#[inline]
#[target_feature(enable = "neon,bf16")]
fn block<const R: usize>(
    rows: MatrixView<'_, u16>,
    row: usize,
    panel: &[PanelRow<Bf16Pair>],
    used: usize,
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
    for half in 0..used.div_ceil(VECTORS * LANES) {
        let mut sums = [[vdupq_n_f32(0.0); VECTORS]; R];
        for (sums, out) in sums.iter_mut().zip(&*out) {
            for (sum, part) in sums.iter_mut().zip(&out.as_chunks::<LANES>().0[half * VECTORS..]) {
                *sum = load(part);
            }
        }
        let mut at = 0;
        for line in panel {
            let line = &line.as_chunks::<LANES>().0[half * VECTORS..][..VECTORS];
            for r in 0..R {
                // SAFETY: the last pair of the last row ends within the data, as was asserted; a check of each is as dear as the product.
                let pair = unsafe { vld1q_dup_u32(data.as_ptr().add(r * row_step + at).cast()) };
                for (sum, columns) in sums[r].iter_mut().zip(line) {
                    // SAFETY: four pairs are there.
                    *sum = add_product(*sum, unsafe { vld1q_u32(columns.as_ptr()) }, pair);
                }
            }
            at += k_step;
        }
        for (sums, out) in sums.iter().zip(&mut *out) {
            for (sum, part) in sums.iter().zip(&mut out.as_chunks_mut::<LANES>().0[half * VECTORS..]) {
                store(part, *sum);
            }
        }
    }
}

#[target_feature(enable = "neon,bf16")]
fn dot(row: &[u16], parts: &Parts<'_>) -> f32 {
    const TOGETHER: usize = 4;
    let (runs, rest) = row.as_chunks::<{ TOGETHER * 2 * LANES }>();
    let parts_of = parts.map(|part| part.as_chunks::<{ TOGETHER * 2 * LANES }>().0);
    // Four sums of each part, so that one addition need not wait for the last.
    let mut sums = [[vdupq_n_f32(0.0); TOGETHER]; 3];
    for (index, numbers) in runs.iter().enumerate() {
        let numbers = numbers.as_chunks::<{ 2 * LANES }>().0;
        for (sums, part) in sums.iter_mut().zip(parts_of) {
            let part = part[index].as_chunks::<{ 2 * LANES }>().0;
            for (sum, (a, b)) in sums.iter_mut().zip(numbers.iter().zip(part)) {
                *sum = add_product(*sum, load_bits(a), load_bits(b));
            }
        }
    }
    let wide = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    let from = row.len() - rest.len();
    let tail: f32 = parts
        .iter()
        .map(|part| rest.iter().zip(&part[from..]).map(|(a, b)| wide(*a) * wide(*b)).sum::<f32>())
        .sum();
    // The small parts first.
    let [small, middle, large] = [2, 1, 0].map(|part| {
        let [a, b, c, d] = sums[part];
        vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)))
    });
    small + middle + tail + large
}

#[inline]
#[target_feature(enable = "neon,bf16")]
fn load_bits(x: &[u16; 2 * LANES]) -> uint32x4_t {
    // SAFETY: eight numbers of 16 bits are there.
    vreinterpretq_u32_u16(unsafe { vld1q_u16(x.as_ptr()) })
}

#[target_feature(enable = "neon,bf16")]
fn round(from: &[f32], to: &mut [u16]) {
    let (from, rest) = from.as_chunks::<{ 2 * LANES }>();
    let (to, to_rest) = to.as_chunks_mut::<{ 2 * LANES }>();
    let eight = |from: &[f32; 2 * LANES], to: &mut [u16; 2 * LANES]| {
        let fours = from.as_chunks().0;
        let bits = vcombine_u16(narrow(load(&fours[0])), narrow(load(&fours[1])));
        // SAFETY: eight places are there.
        unsafe { vst1q_u16(to.as_mut_ptr(), bits) };
    };
    for (from, to) in from.iter().zip(to) {
        eight(from, to);
    }
    let (mut last, mut bits) = ([0f32; 2 * LANES], [0; 2 * LANES]);
    last[..rest.len()].copy_from_slice(rest);
    eight(&last, &mut bits);
    to_rest.copy_from_slice(&bits[..rest.len()]);
}

#[target_feature(enable = "neon,bf16")]
fn round_pairs(even: &[f32], odd: &[f32], out: &mut [Bf16Pair]) {
    let ((even, even_rest), (odd, odd_rest)) = (even.as_chunks(), odd.as_chunks());
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for ((even, odd), out) in even.iter().zip(odd).zip(out) {
        store_pairs(out, even, odd);
    }
    if !out_rest.is_empty() {
        let (mut a, mut b, mut pairs) = ([0f32; LANES], [0f32; LANES], [0; LANES]);
        a[..even_rest.len()].copy_from_slice(even_rest);
        b[..odd_rest.len()].copy_from_slice(odd_rest);
        store_pairs(&mut pairs, &a, &b);
        let count = out_rest.len();
        out_rest.copy_from_slice(&pairs[..count]);
    }
}

#[inline]
#[target_feature(enable = "neon,bf16")]
fn store_pairs(to: &mut [Bf16Pair; LANES], even: &[f32; LANES], odd: &[f32; LANES]) {
    let (even, odd) = (narrow(load(even)), narrow(load(odd)));
    let pairs = vreinterpretq_u32_u16(vcombine_u16(vzip1_u16(even, odd), vzip2_u16(even, odd)));
    // SAFETY: four places are there.
    unsafe { vst1q_u32(to.as_mut_ptr(), pairs) }
}

#[target_feature(enable = "neon,bf16")]
fn scaled<const GROUP: usize>(
    integers: &[i8; 256],
    scales: &[f32; 16],
    offsets: &[f32; 16],
    out: &mut [u16],
) {
    const { assert!(GROUP == 16 || GROUP == 32) };
    let integers = integers.as_chunks::<16>().0;
    for (index, (integers, out)) in integers.iter().zip(out.as_chunks_mut::<16>().0).enumerate() {
        let group = index * 16 / GROUP;
        let (scale, offset) = (vdupq_n_f32(scales[group]), vdupq_n_f32(offsets[group]));
        let number = |four: int32x4_t| narrow(vfmaq_f32(offset, vcvtq_f32_s32(four), scale));
        // SAFETY: sixteen bytes are there.
        let bytes = unsafe { vld1q_s8(integers.as_ptr()) };
        let halves = [vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes))];
        for (half, out) in halves.into_iter().zip(out.as_chunks_mut::<8>().0) {
            let low = number(vmovl_s16(vget_low_s16(half)));
            let high = number(vmovl_s16(vget_high_s16(half)));
            // SAFETY: eight places are there.
            unsafe { vst1q_u16(out.as_mut_ptr(), vcombine_u16(low, high)) };
        }
    }
}
