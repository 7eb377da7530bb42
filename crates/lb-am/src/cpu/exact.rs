//! Products of one head's attention in f64, for systems whose smallest eigenvalues would else be those of rounding.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use lb_kernels::panel::{PANEL, PanelRow};
use pulp::{Arch, Simd, WithSimd};

/// Rows that are added together, so that sums are read and written once for all of them. Panels are a multiple.
const ROWS: usize = 8;

/// Attention X of `n` queries over `t` slots, in panels of queries.
#[derive(Clone, Copy)]
pub(super) struct Exact<'a> {
    pub(super) attention: &'a [PanelRow<f32>],
    pub(super) n: usize,
    pub(super) t: usize,
}

impl Exact<'_> {
    /// Xᵀ X, `[t, t]`, its lower triangle alone.
    pub(super) fn gram(&self) -> Vec<f64> {
        let mut gram = vec![0.0; self.t * self.t];
        self.by_queries(|_, rows| add(rows, rows, self.t, true, &mut gram));
        gram
    }

    /// Xᵀ R, `[t, width]`, for R `[n, width]`.
    pub(super) fn back(&self, right: &[f64], width: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.t * width];
        let mut some = vec![0.0; ROWS * width];
        self.by_queries(|first, rows| {
            let part = &right[first * width..right.len().min((first + ROWS) * width)];
            some[..part.len()].copy_from_slice(part);
            // Rows that are not there are zeros in X.
            add(rows, &some, width, false, &mut out);
        });
        out
    }

    /// X diag(by) Xᵀ, `[n, n]`, its lower triangle alone; `by` has an entry > 0 for each slot.
    pub(super) fn outer_gram(&self, by: &[f64]) -> Vec<f64> {
        let (n, t) = (self.n, self.t);
        let mut gram = vec![0.0; n * n];
        let mut rows = vec![0.0; ROWS * n];
        for first in (0..t).step_by(ROWS) {
            rows.fill(0.0);
            for (slot, (row, by)) in rows.chunks_exact_mut(n).zip(&by[first..]).enumerate() {
                let by = by.sqrt();
                for (row, lines) in row.chunks_mut(PANEL).zip(self.attention.chunks_exact(t)) {
                    let line = &lines[first + slot];
                    row.iter_mut().zip(line).for_each(|(to, x)| *to = by * f64::from(*x));
                }
            }
            add(&rows, &rows, n, true, &mut gram);
        }
        gram
    }

    /// Some queries' rows `[ROWS, t]` at a time, with the first one's number; zeros behind the last.
    fn by_queries(&self, mut visit: impl FnMut(usize, &[f64])) {
        let t = self.t;
        let mut rows = vec![0.0; ROWS * t];
        for first in (0..self.n).step_by(ROWS) {
            let count = ROWS.min(self.n - first);
            rows[count * t..].fill(0.0);
            for (slot, line) in self.attention[first / PANEL * t..][..t].iter().enumerate() {
                for (row, x) in line[first % PANEL..][..count].iter().enumerate() {
                    rows[row * t + slot] = f64::from(*x);
                }
            }
            visit(first, &rows);
        }
    }
}

/// `out += leftᵀ right` for [`ROWS`] rows of both, those of `right` `width` long; where `lower`, of a square its lower triangle
/// alone.
fn add(left: &[f64], right: &[f64], width: usize, lower: bool, out: &mut [f64]) {
    Arch::new().dispatch(Add { left, right, width, lower, out });
}

struct Add<'a> {
    left: &'a [f64],
    right: &'a [f64],
    width: usize,
    lower: bool,
    out: &'a mut [f64],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { left, right, width, lower, out } = self;
        let length = left.len() / ROWS;
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let used = if lower { i + 1 } else { width };
            let by: [f64; ROWS] = std::array::from_fn(|row| left[row * length + i]);
            let rows: [&[f64]; ROWS] = std::array::from_fn(|row| &right[row * width..][..used]);
            for (j, out) in out[..used].iter_mut().enumerate() {
                let first =
                    by[0] * rows[0][j] + by[1] * rows[1][j] + (by[2] * rows[2][j] + by[3] * rows[3][j]);
                let last =
                    by[4] * rows[4][j] + by[5] * rows[5][j] + (by[6] * rows[6][j] + by[7] * rows[7][j]);
                *out += first + last;
            }
        }
    }
}
