//! Bounded least squares solved for its optimum, from the Gram matrix: what rows there are costs nothing once it is made.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use pulp::{Arch, Simd, WithSimd};

use crate::cholesky::Systems;
use crate::error::Result;

/// Sweeps of coordinate descent between two Newton steps: they find out which weights end at a bound.
const SWEEPS: usize = 8;
/// Rounds of both, at most, for a fit; a few are what it takes.
pub(crate) const ROUNDS: usize = 50;
/// How far above the optimum the objective may be, relative to itself and to ‖y‖²; the latter is the rounding of a Gram matrix
/// whose products are f32.
const GAP: (f64, f64) = (1e-5, 1e-9);
/// Halvings of a Newton step before it is given up.
const HALVINGS: usize = 6;
/// Of a column too small to count.
const TINY: f64 = 1e-30;

/// ‖A w − y‖² over w within bounds, as G = AᵀA, h = Aᵀy and ‖y‖².
pub(crate) struct Bounded<'a> {
    /// G `[t, t]`, both triangles.
    pub(crate) gram: &'a [f64],
    /// h `[t]`.
    pub(crate) image: &'a [f64],
    /// ‖y‖².
    pub(crate) squared: f64,
    /// Of each w, both above 0.
    pub(crate) bounds: (f64, f64),
}

impl Bounded<'_> {
    /// The weight that all columns could share.
    pub(crate) fn shared_weight(&self) -> f64 {
        let along: f64 = self.image.iter().sum();
        let norm: f64 = self.gram.iter().sum();
        ((along + TINY) / (norm + TINY)).clamp(self.bounds.0, self.bounds.1)
    }

    /// Weights whose objective is within [`GAP`] of the optimum, or where as many rounds lead, from `w` on. Columns of zeros
    /// keep theirs.
    ///
    /// Rounds of coordinate descent, which finds out which weights end at a bound, and of Newton's step in all others
    /// together, cut off at the bounds (Bertsekas, 1982). What is left to gain is known from the gradient: the objective is
    /// convex, so that none of the weights allowed is lower than its tangent says.
    ///
    /// # Numerics
    ///
    /// f64, with columns scaled to length one.
    pub(crate) fn solve(&self, w: &[f64], rounds: usize) -> Result<Vec<f64>> {
        let t = self.image.len();
        let size: Vec<f64> = (0..t).map(|j| self.gram[j * t + j].max(0.0).sqrt()).collect();
        let inverse: Vec<f64> = size.iter().map(|s| if *s > TINY { s.recip() } else { 0.0 }).collect();
        let mut gram = self.gram.to_vec();
        for (row, by) in gram.chunks_exact_mut(t).zip(&inverse) {
            row.iter_mut().zip(&inverse).for_each(|(x, other)| *x *= by * other);
        }
        let mut state = State {
            x: w.iter().zip(&size).map(|(w, s)| w.clamp(self.bounds.0, self.bounds.1) * s).collect(),
            image: self.image.iter().zip(&inverse).map(|(h, by)| h * by).collect(),
            left: Vec::new(),
            lower: size.iter().map(|s| self.bounds.0 * s).collect(),
            upper: size.iter().map(|s| self.bounds.1 * s).collect(),
            gram,
            squared: self.squared,
        };
        state.left = state.left_of(&state.x);
        for _ in 0..rounds {
            for _ in 0..SWEEPS {
                Arch::new().dispatch(Sweep(&mut state));
            }
            if state.is_done() {
                break;
            }
            state.newton()?;
            if state.is_done() {
                break;
            }
        }
        let found = state.x.iter().zip(&inverse).zip(w);
        Ok(found
            .map(|((x, by), w)| if *by > 0.0 { x * by } else { *w })
            .map(|w| w.clamp(self.bounds.0, self.bounds.1))
            .collect())
    }
}

/// The upper triangle of a square from its lower one.
pub(crate) fn mirror(gram: &mut [f64], size: usize) {
    for i in 0..size {
        for j in 0..i {
            gram[j * size + i] = gram[i * size + j];
        }
    }
}

/// Weights of scaled columns.
struct State {
    gram: Vec<f64>,
    image: Vec<f64>,
    squared: f64,
    lower: Vec<f64>,
    upper: Vec<f64>,
    x: Vec<f64>,
    /// h − G x: minus half the gradient.
    left: Vec<f64>,
}

impl State {
    fn left_of(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.gram.chunks_exact(x.len());
        self.image.iter().zip(rows).map(|(h, row)| h - dot(row, x)).collect()
    }

    fn objective(&self, x: &[f64], left: &[f64]) -> f64 {
        let along: f64 = x.iter().zip(self.image.iter().zip(left)).map(|(x, (h, left))| x * (h + left)).sum();
        self.squared - along
    }

    /// Whether no weights within the bounds are better by more than [`GAP`].
    fn is_done(&self) -> bool {
        let gain = |j: usize| {
            let to = if self.left[j] > 0.0 { self.upper[j] } else { self.lower[j] };
            2.0 * self.left[j] * (to - self.x[j])
        };
        let gap: f64 = (0..self.x.len()).map(gain).sum();
        gap <= GAP.0 * self.objective(&self.x, &self.left).max(0.0) + GAP.1 * self.squared
    }

    /// To the optimum of all weights that are not at a bound, as far as the bounds allow.
    fn newton(&mut self) -> Result<()> {
        let t = self.x.len();
        let free: Vec<usize> =
            (0..t).filter(|j| self.x[*j] > self.lower[*j] && self.x[*j] < self.upper[*j]).collect();
        if free.is_empty() {
            return Ok(());
        }
        let mut matrices = Vec::with_capacity(free.len() * free.len());
        for i in &free {
            matrices.extend(free.iter().map(|j| self.gram[i * t + j]));
        }
        let right = free.iter().map(|j| self.left[*j]).collect();
        let mut systems = Systems { size: free.len(), columns: 1, matrices, right };
        systems.solve()?;
        let before = self.objective(&self.x, &self.left);
        let mut length = 1.0;
        for _ in 0..=HALVINGS {
            let mut x = self.x.clone();
            for (j, step) in free.iter().zip(&systems.right) {
                x[*j] = (x[*j] + length * step).clamp(self.lower[*j], self.upper[*j]);
            }
            let left = self.left_of(&x);
            if self.objective(&x, &left) <= before {
                (self.x, self.left) = (x, left);
                break;
            }
            length /= 2.0;
        }
        Ok(())
    }
}

/// The best of each weight in turn, all others as they are.
struct Sweep<'a>(&'a mut State);

impl WithSimd for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let State { gram, lower, upper, x, left, .. } = self.0;
        for (j, row) in gram.chunks_exact(x.len()).enumerate() {
            if row[j] <= 0.0 {
                continue;
            }
            let next = (x[j] + left[j] / row[j]).clamp(lower[j], upper[j]);
            let change = next - x[j];
            if change != 0.0 {
                x[j] = next;
                left.iter_mut().zip(row).for_each(|(left, g)| *left -= change * g);
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::{Bounded, ROUNDS, mirror};

    /// How far above the optimum of a long descent the objective may be, and of ‖y‖².
    const ABOVE: f64 = 1e-3;
    const ROUNDING: f64 = 1e-9;

    /// Weights of kept keys: columns of very different size, some nearly the same, and one of zeros.
    fn columns(n: usize, t: usize) -> Vec<Vec<f64>> {
        let angle = |i: usize, j: usize| ((i * 37 + j * 101 + i * j) as f64 * 0.7).sin();
        let column = |j: usize| -> Vec<f64> {
            let like = if j % 5 == 4 { j - 1 } else { j };
            let size = if j == 3 { 0.0 } else { (-(j as f64) / 3.0 % 7.0).exp() };
            (0..n).map(|i| size * (2.0 * angle(i, like) + 0.01 * angle(i, j + t)).exp()).collect()
        };
        (0..t).map(column).collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn objective(columns: &[Vec<f64>], y: &[f64], w: &[f64]) -> f64 {
        let left = |i: usize| y[i] - columns.iter().zip(w).map(|(column, w)| column[i] * w).sum::<f64>();
        (0..y.len()).map(|i| left(i).powi(2)).sum()
    }

    /// Many sweeps of coordinate descent on the columns themselves.
    fn descended(columns: &[Vec<f64>], y: &[f64], bounds: (f64, f64)) -> Vec<f64> {
        let mut w = vec![1.0f64.clamp(bounds.0, bounds.1); columns.len()];
        let mut left: Vec<f64> =
            (0..y.len()).map(|i| y[i] - columns.iter().zip(&w).map(|(c, w)| c[i] * w).sum::<f64>()).collect();
        for _ in 0..20_000 {
            for (w, column) in w.iter_mut().zip(columns) {
                let norm = dot(column, column);
                if norm > 0.0 {
                    let next = (*w + dot(column, &left) / norm).clamp(bounds.0, bounds.1);
                    left.iter_mut().zip(column).for_each(|(left, a)| *left -= a * (next - *w));
                    *w = next;
                }
            }
        }
        w
    }

    #[test]
    fn the_optimum_is_that_of_a_long_descent() {
        for (n, t, bounds) in
            [(40, 1, (0.05, 20.0)), (60, 12, (0.05, 20.0)), (90, 40, (0.05, 20.0)), (90, 40, (1e-6, 1e3))]
        {
            let columns = columns(n, t);
            // Some rows want more than the bounds allow, some less.
            let y: Vec<f64> = (0..n)
                .map(|i| {
                    columns.iter().map(|c| c[i]).sum::<f64>() * if i % 3 == 0 { 30.0 } else { 0.8 } + 0.1
                })
                .collect();
            let mut gram = vec![0.0; t * t];
            for i in 0..t {
                for j in 0..=i {
                    gram[i * t + j] = dot(&columns[i], &columns[j]);
                }
            }
            mirror(&mut gram, t);
            let image: Vec<f64> = columns.iter().map(|column| dot(column, &y)).collect();
            let squared = dot(&y, &y);
            let bounded = Bounded { gram: &gram, image: &image, squared, bounds };
            let w = bounded.solve(&vec![bounded.shared_weight(); t], ROUNDS).unwrap();
            assert!(w.iter().all(|w| (bounds.0..=bounds.1).contains(w)), "{w:?}");
            let (got, best) =
                (objective(&columns, &y, &w), objective(&columns, &y, &descended(&columns, &y, bounds)));
            assert!(got <= best * (1.0 + ABOVE) + ROUNDING * squared, "{n} rows, {t}: {got} against {best}");
        }
    }

    #[test]
    fn columns_without_mass_keep_their_weight() {
        let bounded = Bounded { gram: &[0.0; 4], image: &[0.0; 2], squared: 3.0, bounds: (0.05, 20.0) };
        assert_eq!(bounded.solve(&[1.0, 2.0], ROUNDS).unwrap(), [1.0, 2.0]);
        assert!((bounded.shared_weight() - 1.0).abs() < 1e-9);
    }
}
