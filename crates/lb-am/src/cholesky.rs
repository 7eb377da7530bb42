//! A small batched solver for symmetric positive definite systems: candle has none.

#![allow(clippy::inline_always, reason = "what is not inlined into a dispatch runs without its vectors")]

use candle_core::{DType, Device, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Jitter is tried in these steps, relative to the mean diagonal; a system that needs the last one is reported.
const JITTER: [f64; 6] = [0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4];

/// Solves (A + diag) X = B for a batch of heads on the CPU in f64; `diagonal(head, row)` is added to A. Returns X in the
/// dtype of B and where B is, and the largest jitter that was needed.
///
/// # Shapes
///
/// `a` `[H, size, size]`, `b` `[H, size, columns]`, f32 or f64.
pub(crate) fn solve(a: &Tensor, b: &Tensor, diagonal: impl Fn(usize, usize) -> f64) -> Result<(Tensor, f64)> {
    let (heads, size, columns) = b.dims3()?;
    let mut systems = Systems { size, columns, matrices: wide(a)?, right: wide(b)? };
    for head in 0..heads {
        for row in 0..size {
            systems.matrices[(head * size + row) * size + row] += diagonal(head, row);
        }
    }
    let jitter = systems.solve()?;
    let solution = Tensor::from_vec(systems.right, (heads, size, columns), &Device::Cpu)?;
    Ok((solution.to_dtype(b.dtype())?.to_device(b.device())?, jitter))
}

/// All entries in f64, on the CPU.
pub(crate) fn wide(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// Independent systems A X = B of one size, row by row in f64.
pub(crate) struct Systems {
    /// Rows of each A.
    pub(crate) size: usize,
    /// Columns of each B.
    pub(crate) columns: usize,
    /// Every A, `size * size` each; the lower triangle is read.
    pub(crate) matrices: Vec<f64>,
    /// Every B, `size * columns` each; replaced by X.
    pub(crate) right: Vec<f64>,
}

impl Systems {
    /// Solves in place, systems in parallel; returns the largest jitter that any of them needed.
    ///
    /// # Numerics
    ///
    /// Cholesky in f64. Where a pivot is not positive, the diagonal is raised by a growing share of its mean.
    pub(crate) fn solve(&mut self) -> Result<f64> {
        let (size, columns) = (self.size, self.columns);
        self.matrices
            .par_chunks_exact(size * size)
            .zip(self.right.par_chunks_exact_mut(size * columns))
            .map(|(matrix, right)| Arch::new().dispatch(Solve { matrix, right, size, columns }))
            .try_reduce(|| 0.0, |a, b| Ok(a.max(b)))
    }
}

/// One system. A type of its own, since a closure of this size would not be inlined into a dispatch.
struct Solve<'a> {
    matrix: &'a [f64],
    right: &'a mut [f64],
    size: usize,
    columns: usize,
}

impl WithSimd for Solve<'_> {
    type Output = Result<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Result<f64> {
        let Self { matrix, right, size, columns } = self;
        let (factor, jitter) = factorise(matrix, size)?;
        substitute(&factor, right, size, columns);
        Ok(jitter)
    }
}

/// The lower factor L of A + jitter, and the jitter relative to the mean diagonal.
#[inline(always)]
fn factorise(matrix: &[f64], size: usize) -> Result<(Vec<f64>, f64)> {
    let mean = (0..size).map(|i| matrix[i * size + i]).sum::<f64>() / size as f64;
    for jitter in JITTER {
        let mut factor = matrix.to_vec();
        for i in 0..size {
            factor[i * size + i] += jitter * mean;
        }
        if factorise_in_place(&mut factor, size) {
            return Ok((factor, jitter));
        }
    }
    Err(Error::Singular { size, jitter: JITTER[JITTER.len() - 1] })
}

/// Row by row, each entry a dot product of two finished rows; false where a pivot is not positive.
#[inline(always)]
fn factorise_in_place(matrix: &mut [f64], size: usize) -> bool {
    for i in 0..size {
        let (above, rest) = matrix.split_at_mut(i * size);
        let row = &mut rest[..size];
        for j in 0..i {
            let other = &above[j * size..=j * size + j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        row[i] = pivot.sqrt();
    }
    true
}

/// Forward then backward substitution over all columns of B at once.
#[inline(always)]
fn substitute(factor: &[f64], right: &mut [f64], size: usize, columns: usize) {
    for i in 0..size {
        let (done, rest) = right.split_at_mut(i * columns);
        let row = &mut rest[..columns];
        for (j, solved) in done.chunks_exact(columns).enumerate() {
            subtract(row, solved, factor[i * size + j]);
        }
        divide(row, factor[i * size + i]);
    }
    for i in (0..size).rev() {
        let (rest, done) = right.split_at_mut((i + 1) * columns);
        let row = &mut rest[i * columns..];
        for (j, solved) in done.chunks_exact(columns).enumerate() {
            subtract(row, solved, factor[(i + 1 + j) * size + i]);
        }
        divide(row, factor[i * size + i]);
    }
}

#[inline(always)]
fn subtract(row: &mut [f64], other: &[f64], factor: f64) {
    for (a, b) in row.iter_mut().zip(other) {
        *a -= factor * b;
    }
}

#[inline(always)]
fn divide(row: &mut [f64], by: f64) {
    for a in row {
        *a /= by;
    }
}

/// A dot product in eight running sums, which the compiler turns into vector code; one sum it may not reorder.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::Systems;
    use crate::Error;

    /// A fixed, well-spread matrix M; M Mᵀ + shift · I is positive definite.
    fn system(size: usize, shift: f64) -> Vec<f64> {
        let m = |i: usize, j: usize| ((i * 7 + j * 13 + i * j) as f64).sin();
        let mut matrix = vec![0.0; size * size];
        for i in 0..size {
            for j in 0..size {
                matrix[i * size + j] = (0..size).map(|k| m(i, k) * m(j, k)).sum();
            }
            matrix[i * size + i] += shift;
        }
        matrix
    }

    #[test]
    fn solves_a_batch() {
        let (size, columns) = (21, 3);
        let matrices = [system(size, 0.5), system(size, 2.0)].concat();
        let solution: Vec<f64> = (0..2 * size * columns).map(|i| (i as f64).cos()).collect();
        let mut right = vec![0.0; solution.len()];
        for (s, right) in right.chunks_exact_mut(size * columns).enumerate() {
            for i in 0..size {
                for k in 0..size {
                    for c in 0..columns {
                        right[i * columns + c] +=
                            matrices[(s * size + i) * size + k] * solution[(s * size + k) * columns + c];
                    }
                }
            }
        }
        let mut systems = Systems { size, columns, matrices, right };
        assert!(systems.solve().unwrap().abs() < f64::EPSILON);
        for (got, want) in systems.right.iter().zip(&solution) {
            assert!((got - want).abs() < 1e-10, "{got} against {want}");
        }
    }

    #[test]
    fn a_singular_system_is_solved_with_a_jitter_that_is_reported() {
        let mut systems = Systems { size: 3, columns: 1, matrices: vec![1.0; 9], right: vec![3.0; 3] };
        assert!(systems.solve().unwrap() > 0.0);
        let sum: f64 = systems.right.iter().sum();
        assert!((sum - 3.0).abs() < 1e-6, "{:?}", systems.right);
    }

    #[test]
    fn an_indefinite_system_is_an_error() {
        let mut systems =
            Systems { size: 2, columns: 1, matrices: vec![1.0, 2.0, 2.0, 1.0], right: vec![1.0; 2] };
        assert!(matches!(systems.solve(), Err(Error::Singular { size: 2, .. })));
    }
}
