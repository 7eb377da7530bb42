//! The inner loop of every product: a few rows of numbers against a panel of columns.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use bytemuck::NoUninit;
use pulp::{Arch, Simd, WithSimd};

use super::prefetch::Prefetch;

/// Columns of a panel: three of the widest vectors. Eight rows of them fill the registers of AVX-512.
pub const PANEL: usize = 48;

/// What a packed panel has for one k, or for one slot: a number for each of its columns.
pub type PanelRow<T> = [T; PANEL];

/// The left side of a product, where it lies: number `k` of row `r` is `data[r * row_step + k * k_step]`. A view of a matrix
/// or of its transpose.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a, T> {
    /// The numbers, and what may lie between and behind them.
    pub data: &'a [T],
    /// How many rows.
    pub count: usize,
    /// From a row to the next.
    pub row_step: usize,
    /// From a number of a row to the next.
    pub k_step: usize,
}

impl<'a, T> MatrixView<'a, T> {
    /// Rows of `depth` numbers that lie behind one another.
    #[inline]
    pub fn packed(data: &'a [T], count: usize, depth: usize) -> Self {
        Self { data, count, row_step: depth, k_step: 1 }
    }

    /// The columns of a matrix of `columns` columns.
    #[inline]
    pub fn columns(data: &'a [T], columns: usize) -> Self {
        Self { data, count: columns, row_step: 1, k_step: columns }
    }

    /// From row `first` on, `depth` numbers each; panics where the last of `count` rows ends behind the data.
    #[inline(always)]
    pub(crate) fn block(&self, first: usize, count: usize, depth: usize) -> &'a [T] {
        let data = &self.data[first * self.row_step..];
        assert!(depth > 0 && (count - 1) * self.row_step + (depth - 1) * self.k_step < data.len());
        data
    }
}

/// Writes a row to a column of a panel.
pub(crate) fn pack_column<T: Copy>(row: &[T], panel: &mut [PanelRow<T>], column: usize) {
    for (line, number) in panel.iter_mut().zip(row) {
        line[column] = *number;
    }
}

/// Rows of `depth` numbers as panels: each row a column, the last panel filled up with zeros.
pub fn pack_panels(rows: &[f32], depth: usize) -> Vec<Vec<PanelRow<f32>>> {
    let one_panel = |rows: &[f32]| {
        let mut lines = vec![[0.0; PANEL]; depth];
        for (column, row) in rows.chunks_exact(depth).enumerate() {
            pack_column(row, &mut lines, column);
        }
        lines
    };
    rows.chunks(PANEL * depth).map(one_panel).collect()
}

/// `out[r][c] += Σ_k rows[r][k] · panel[k][c]` for the first `used` columns, and any numbers in the others.
///
/// # Numerics
///
/// f32, fused where the machine can. Panics where the last row ends behind the data.
pub fn matmul_panel(
    rows: MatrixView<'_, f32>,
    panel: &[PanelRow<f32>],
    used: usize,
    out: &mut [PanelRow<f32>],
) {
    matmul_panel_prefetching::<f32>(rows, panel, used, out, &[]);
}

/// The same, while `next` is prefetched.
pub(crate) fn matmul_panel_prefetching<T: NoUninit>(
    rows: MatrixView<'_, f32>,
    panel: &[PanelRow<f32>],
    used: usize,
    out: &mut [PanelRow<f32>],
    next: &[T],
) {
    let prefetch = Prefetch::new(next, rows.count.div_ceil(8));
    Arch::new().dispatch(MatmulPanel { rows, panel, used, out, prefetch });
}

struct MatmulPanel<'a> {
    rows: MatrixView<'a, f32>,
    panel: &'a [PanelRow<f32>],
    used: usize,
    out: &'a mut [PanelRow<f32>],
    prefetch: Prefetch<'a>,
}

impl WithSimd for MatmulPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::F32_LANES, S::REGISTER_COUNT >= 32) {
            (16, true) => match self.used.div_ceil(16) {
                3 => self.run::<S, 8, 3>(simd),
                2 => self.run::<S, 8, 2>(simd),
                _ => self.run::<S, 8, 1>(simd),
            },
            (_, true) => self.run::<S, 4, 6>(simd),
            _ => self.run::<S, 4, 2>(simd),
        }
    }
}

impl MatmulPanel<'_> {
    /// Blocks of `R` rows and `V` vectors of columns, whose sums stay in registers.
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize>(mut self, simd: S) {
        let mut row = 0;
        while row + R <= self.rows.count {
            self.prefetch.fetch();
            self.block::<S, R, V>(simd, row);
            row += R;
        }
        for row in row..self.rows.count {
            self.block::<S, 1, V>(simd, row);
        }
    }

    #[inline(always)]
    fn block<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, row: usize) {
        if self.panel.is_empty() {
            return;
        }
        let MatrixView { row_step, k_step, .. } = self.rows;
        let data = self.rows.block(row, R, self.panel.len());
        let out = &mut self.out[row..row + R];
        let width = V * S::F32_LANES;
        for first in (0..self.used).step_by(width) {
            let mut sums = [[simd.splat_f32s(0.0); V]; R];
            for (sums, out) in sums.iter_mut().zip(&*out) {
                sums.copy_from_slice(&S::as_simd_f32s(&out[first..first + width]).0[..V]);
            }
            let mut at = 0;
            for line in self.panel {
                let line = &S::as_simd_f32s(&line[first..first + width]).0[..V];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let number = simd.splat_f32s(data[r * row_step + at]);
                    for (sum, column) in sums.iter_mut().zip(line) {
                        *sum = simd.mul_add_e_f32s(number, *column, *sum);
                    }
                }
                at += k_step;
            }
            for (sums, out) in sums.iter().zip(&mut *out) {
                S::as_mut_simd_f32s(&mut out[first..first + width]).0[..V].copy_from_slice(sums);
            }
        }
    }
}
