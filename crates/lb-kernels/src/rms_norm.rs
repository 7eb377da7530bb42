//! Root mean square norms of rows, and what comes right before and behind them.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

/// A norm's weights and the number that keeps its root from 0.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    /// As many as a row has numbers, at least one.
    pub gain: &'a [f32],
    /// Added to the mean of the squares.
    pub eps: f32,
}

impl RmsNorm<'_> {
    /// `out = x / sqrt(mean(x²) + eps) · gain` of each row.
    ///
    /// # Numerics
    ///
    /// Sums in f32, in vectors; the same for each row in whatever company it comes.
    pub fn rows(self, x: &[f32], out: &mut [f32]) {
        Arch::new().dispatch(Rows { norm: self, x, out });
    }

    /// `x += y`, then `y = norm(x)`, row by row.
    ///
    /// # Numerics
    ///
    /// Those of [`rows`](Self::rows).
    pub fn rows_of_sum(self, x: &mut [f32], y: &mut [f32]) {
        Arch::new().dispatch(RowsOfSum { norm: self, x, y });
    }

    #[inline(always)]
    pub(super) fn row<S: Simd>(self, simd: S, x: &[f32], out: &mut [f32]) {
        let by = 1.0 / (squares(simd, x) / x.len() as f32 + self.eps).sqrt();
        for ((x, gain), out) in x.iter().zip(self.gain).zip(out) {
            *out = x * by * gain;
        }
    }
}

struct Rows<'a> {
    norm: RmsNorm<'a>,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.norm.gain.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            self.norm.row(simd, x, out);
        }
    }
}

struct RowsOfSum<'a> {
    norm: RmsNorm<'a>,
    x: &'a mut [f32],
    y: &'a mut [f32],
}

impl WithSimd for RowsOfSum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.norm.gain.len();
        for (x, y) in self.x.chunks_exact_mut(width).zip(self.y.chunks_exact_mut(width)) {
            add_to(x, y);
            self.norm.row(simd, x, y);
        }
    }
}

#[inline(always)]
fn add_to(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Four sums at a time, so that one addition need not wait for the last.
#[inline(always)]
fn squares<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(x);
    let (fours, last) = pulp::as_arrays::<4, _>(vectors);
    let mut sums = [simd.splat_f32s(0.0); 4];
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four) {
            *sum = simd.mul_add_e_f32s(*x, *x, *sum);
        }
    }
    for x in last {
        sums[0] = simd.mul_add_e_f32s(*x, *x, sums[0]);
    }
    let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    simd.reduce_sum_f32s(sum) + rest.iter().map(|x| x * x).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::{RmsNorm, add_to};

    const BOUND: f64 = 5e-7;

    fn numbers(len: usize, step: usize) -> Vec<f32> {
        (0..len).map(|i| (i * step % 101) as f32 * 0.03 - 1.4).collect()
    }

    fn check(x: &[f32], norm: RmsNorm<'_>, got: &[f32]) {
        let width = norm.gain.len();
        for (x, got) in x.chunks(width).zip(got.chunks(width)) {
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
            let root = (mean + f64::from(norm.eps)).sqrt();
            for ((x, gain), got) in x.iter().zip(norm.gain).zip(got) {
                let want = f64::from(*x) / root * f64::from(*gain);
                assert!((f64::from(*got) - want).abs() <= BOUND * want.abs(), "{got} instead of {want}");
            }
        }
    }

    /// Against f64, with widths that fill vectors and such that do not; a row alone is as one of several, to the bit.
    #[test]
    fn rows_have_their_norm() {
        for width in [1, 8, 31, 64, 128, 1000] {
            let (x, gain) = (numbers(3 * width, 37), numbers(width, 11));
            let norm = RmsNorm { gain: &gain, eps: 1e-5 };
            let mut out = vec![0.0; 3 * width];
            norm.rows(&x, &mut out);
            check(&x, norm, &out);
            let mut alone = vec![0.0; width];
            norm.rows(&x[width..2 * width], &mut alone);
            assert_eq!(alone, out[width..2 * width]);
        }
    }

    /// The sum is that of the addition, and its norm that of the rows, to the bit.
    #[test]
    fn a_sum_is_added_then_normed() {
        let (mut x, y, gain) = (numbers(2 * 133, 37), numbers(2 * 133, 29), numbers(133, 11));
        let norm = RmsNorm { gain: &gain, eps: 1e-6 };
        let mut sum = x.clone();
        add_to(&mut sum, &y);
        assert_eq!(sum, x.iter().zip(&y).map(|(x, y)| x + y).collect::<Vec<_>>());
        let mut normed = y.clone();
        norm.rows_of_sum(&mut x, &mut normed);
        let mut want = vec![0.0; x.len()];
        norm.rows(&sum, &mut want);
        assert_eq!((x, normed), (sum, want));
    }
}
