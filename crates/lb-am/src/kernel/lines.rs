//! Sums over lines of panels: what the fits do with weights that lie slot by slot, queries side by side.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

use super::exp::exp;
use super::tile::{Line, PANEL};

/// Lines taken together, so that one addition need not wait for the last.
const TOGETHER: usize = 4;

/// `Σ_j by[j] · lines[j]`.
pub(crate) fn weighted_sum(lines: &[Line<f32>], by: &[f32]) -> Line<f32> {
    Arch::new().dispatch(WeightedSum { lines, by })
}

struct WeightedSum<'a> {
    lines: &'a [Line<f32>],
    by: &'a [f32],
}

impl WithSimd for WeightedSum<'_> {
    type Output = Line<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Line<f32> {
        let mut out = [0.0; PANEL];
        for first in (0..PANEL).step_by(S::F32_LANES) {
            let columns = first..first + S::F32_LANES;
            let mut sums = [simd.splat_f32s(0.0); TOGETHER];
            for (lines, by) in self.lines.chunks(TOGETHER).zip(self.by.chunks(TOGETHER)) {
                for ((sum, line), by) in sums.iter_mut().zip(lines).zip(by) {
                    let line = S::as_simd_f32s(&line[columns.clone()]).0[0];
                    *sum = simd.mul_add_e_f32s(line, simd.splat_f32s(*by), *sum);
                }
            }
            let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
            S::as_mut_simd_f32s(&mut out[columns]).0[0] = sum;
        }
        out
    }
}

/// `out[j] += lines[j] · with`.
pub(crate) fn add_dots(lines: &[Line<f32>], with: &Line<f32>, out: &mut [f32]) {
    Arch::new().dispatch(AddDots { lines, with, out });
}

struct AddDots<'a> {
    lines: &'a [Line<f32>],
    with: &'a Line<f32>,
    out: &'a mut [f32],
}

impl WithSimd for AddDots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let with = S::as_simd_f32s(self.with).0;
        for (line, out) in self.lines.iter().zip(self.out) {
            let mut sum = simd.splat_f32s(0.0);
            for (a, b) in S::as_simd_f32s(line).0.iter().zip(with) {
                sum = simd.mul_add_e_f32s(*a, *b, sum);
            }
            *out += simd.reduce_sum_f32s(sum);
        }
    }
}

/// `out[j] = exp(lines[j] − shift) · by`.
pub(crate) fn exp_shifted(lines: &[Line<f32>], shift: &Line<f32>, by: &Line<f32>, out: &mut [Line<f32>]) {
    Arch::new().dispatch(ExpShifted { lines, shift, by, out });
}

struct ExpShifted<'a> {
    lines: &'a [Line<f32>],
    shift: &'a Line<f32>,
    by: &'a Line<f32>,
    out: &'a mut [Line<f32>],
}

impl WithSimd for ExpShifted<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (shift, by) = (S::as_simd_f32s(self.shift).0, S::as_simd_f32s(self.by).0);
        for (line, out) in self.lines.iter().zip(self.out) {
            let columns = S::as_simd_f32s(line).0.iter().zip(S::as_mut_simd_f32s(out).0);
            for ((x, out), (shift, by)) in columns.zip(shift.iter().zip(by)) {
                *out = simd.mul_f32s(exp(simd, simd.sub_f32s(*x, *shift)), *by);
            }
        }
    }
}

/// `lines[j] = lines[j] · by`.
pub(crate) fn scale_columns(lines: &mut [Line<f32>], by: &Line<f32>) {
    Arch::new().dispatch(|| {
        for line in &mut *lines {
            for (x, by) in line.iter_mut().zip(by) {
                *x *= by;
            }
        }
    });
}

/// `out[j] = by[j] · lines[j]`.
pub(crate) fn scaled_lines(lines: &[Line<f32>], by: &[f32], out: &mut [Line<f32>]) {
    Arch::new().dispatch(|| {
        for ((line, by), out) in lines.iter().zip(by).zip(&mut *out) {
            for (x, out) in line.iter().zip(out) {
                *out = x * by;
            }
        }
    });
}
