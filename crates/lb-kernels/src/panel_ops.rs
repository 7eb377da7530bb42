//! Sums over the rows of panels: what fits do with weights that lie slot by slot, queries side by side.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

use super::exp::exp;
use super::microkernel::{PANEL, PanelRow};

/// Rows taken together, so that one addition need not wait for the last.
const TOGETHER: usize = 4;

/// `Σ_j by[j] · rows[j]`.
pub fn weighted_sum(rows: &[PanelRow<f32>], by: &[f32]) -> PanelRow<f32> {
    Arch::new().dispatch(WeightedSum { rows, by })
}

struct WeightedSum<'a> {
    rows: &'a [PanelRow<f32>],
    by: &'a [f32],
}

impl WithSimd for WeightedSum<'_> {
    type Output = PanelRow<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> PanelRow<f32> {
        let mut out = [0.0; PANEL];
        for first in (0..PANEL).step_by(S::F32_LANES) {
            let columns = first..first + S::F32_LANES;
            let mut sums = [simd.splat_f32s(0.0); TOGETHER];
            for (rows, by) in self.rows.chunks(TOGETHER).zip(self.by.chunks(TOGETHER)) {
                for ((sum, row), by) in sums.iter_mut().zip(rows).zip(by) {
                    let row = S::as_simd_f32s(&row[columns.clone()]).0[0];
                    *sum = simd.mul_add_e_f32s(row, simd.splat_f32s(*by), *sum);
                }
            }
            let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
            S::as_mut_simd_f32s(&mut out[columns]).0[0] = sum;
        }
        out
    }
}

/// `out[j] += rows[j] · with`.
pub fn add_dots(rows: &[PanelRow<f32>], with: &PanelRow<f32>, out: &mut [f32]) {
    Arch::new().dispatch(AddDots { rows, with, out });
}

struct AddDots<'a> {
    rows: &'a [PanelRow<f32>],
    with: &'a PanelRow<f32>,
    out: &'a mut [f32],
}

impl WithSimd for AddDots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let with = S::as_simd_f32s(self.with).0;
        for (row, out) in self.rows.iter().zip(self.out) {
            let mut sum = simd.splat_f32s(0.0);
            for (a, b) in S::as_simd_f32s(row).0.iter().zip(with) {
                sum = simd.mul_add_e_f32s(*a, *b, sum);
            }
            *out += simd.reduce_sum_f32s(sum);
        }
    }
}

/// `out[j] = exp(rows[j] − shift) · by`.
pub fn exp_shifted(
    rows: &[PanelRow<f32>],
    shift: &PanelRow<f32>,
    by: &PanelRow<f32>,
    out: &mut [PanelRow<f32>],
) {
    Arch::new().dispatch(ExpShifted { rows, shift, by, out });
}

struct ExpShifted<'a> {
    rows: &'a [PanelRow<f32>],
    shift: &'a PanelRow<f32>,
    by: &'a PanelRow<f32>,
    out: &'a mut [PanelRow<f32>],
}

impl WithSimd for ExpShifted<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (shift, by) = (S::as_simd_f32s(self.shift).0, S::as_simd_f32s(self.by).0);
        for (row, out) in self.rows.iter().zip(self.out) {
            let columns = S::as_simd_f32s(row).0.iter().zip(S::as_mut_simd_f32s(out).0);
            for ((x, out), (shift, by)) in columns.zip(shift.iter().zip(by)) {
                *out = simd.mul_f32s(exp(simd, simd.sub_f32s(*x, *shift)), *by);
            }
        }
    }
}

/// `rows[j] = rows[j] · by`, column by column.
pub fn scale_columns(rows: &mut [PanelRow<f32>], by: &PanelRow<f32>) {
    Arch::new().dispatch(|| {
        for row in &mut *rows {
            for (x, by) in row.iter_mut().zip(by) {
                *x *= by;
            }
        }
    });
}

/// `out[j] = by[j] · rows[j]`.
pub fn scaled_rows(rows: &[PanelRow<f32>], by: &[f32], out: &mut [PanelRow<f32>]) {
    Arch::new().dispatch(|| {
        for ((row, by), out) in rows.iter().zip(by).zip(&mut *out) {
            for (x, out) in row.iter().zip(out) {
                *out = x * by;
            }
        }
    });
}
