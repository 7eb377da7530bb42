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
    fn with_simd<S: Simd>(self, simd: S) -> Result<f64> {
        let Self { matrix, right, size, columns } = self;
        let (factor, jitter) = factorise(simd, matrix, size)?;
        substitute(simd, &factor, right, size, columns);
        Ok(jitter)
    }
}

/// The lower factor L of A + jitter, and the jitter relative to the mean diagonal.
#[inline(always)]
fn factorise<S: Simd>(simd: S, matrix: &[f64], size: usize) -> Result<(Vec<f64>, f64)> {
    let mean = (0..size).map(|i| matrix[i * size + i]).sum::<f64>() / size as f64;
    for jitter in JITTER {
        let mut factor = matrix.to_vec();
        for i in 0..size {
            factor[i * size + i] += jitter * mean;
        }
        if factorise_in_place(simd, &mut factor, size) {
            return Ok((factor, jitter));
        }
    }
    Err(Error::Singular { size, jitter: JITTER[JITTER.len() - 1] })
}

/// Rows that are finished together: each number that is read then meets several others.
const TILE: usize = 4;

/// A tile of rows after the other, each entry less a dot product of two finished rows; false where a pivot is not positive.
#[inline(always)]
fn factorise_in_place<S: Simd>(simd: S, matrix: &mut [f64], size: usize) -> bool {
    for first in (0..size).step_by(TILE) {
        let rows = TILE.min(size - first);
        let (above, rest) = matrix.split_at_mut(first * size);
        let own = &mut rest[..rows * size];
        for (number, others) in above.chunks_exact(TILE * size).enumerate() {
            finish_tile(simd, own, others, number * TILE, size);
        }
        if !finish_diagonal(own, first, size) {
            return false;
        }
    }
    true
}

/// The columns `first..first + TILE` of the rows `own`; the rows `others` have their diagonal there.
#[inline(always)]
fn finish_tile<S: Simd>(simd: S, own: &mut [f64], others: &[f64], first: usize, size: usize) {
    let row = |of: usize| &others[of * size..][..first];
    let mut sums = [[0.0; TILE]; TILE];
    let mut rows = own.chunks_exact(size).map(|row| &row[..first]);
    if let [Some(a), Some(b), Some(c), Some(d)] = [(); TILE].map(|()| rows.next()) {
        for pair in (0..TILE).step_by(2) {
            let dots = dots(simd, [a, b, c, d], [row(pair), row(pair + 1)]);
            for (sums, dots) in sums.iter_mut().zip(dots) {
                sums[pair..pair + 2].copy_from_slice(&dots);
            }
        }
    } else {
        for (sums, own) in sums.iter_mut().zip(own.chunks_exact(size)) {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = dot(&own[..first], row(j));
            }
        }
    }
    for (own, sums) in own.chunks_exact_mut(size).zip(sums) {
        for (j, sum) in sums.into_iter().enumerate() {
            let other = &others[j * size + first..][..=j];
            let within: f64 = own[first..first + j].iter().zip(other).map(|(x, y)| x * y).sum();
            own[first + j] = (own[first + j] - sum - within) / other[j];
        }
    }
}

/// The rows from `first` on, whose columns before it are finished; false where a pivot is not positive.
#[inline(always)]
fn finish_diagonal(own: &mut [f64], first: usize, size: usize) -> bool {
    for i in 0..own.len() / size {
        let (above, rest) = own.split_at_mut(i * size);
        let row = &mut rest[..size];
        for (j, other) in (first..).zip(above.chunks_exact(size)) {
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let end = first + i;
        let pivot = row[end] - dot(&row[..end], &row[..end]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        row[end] = pivot.sqrt();
    }
    true
}

/// Forward then backward substitution over all columns of B at once, a tile of rows after the other.
#[inline(always)]
fn substitute<S: Simd>(simd: S, factor: &[f64], right: &mut [f64], size: usize, columns: usize) {
    let tiles = || (0..size).step_by(TILE).map(|first| (first, TILE.min(size - first)));
    let mut weights = Vec::with_capacity(size);
    for (first, rows) in tiles() {
        let (done, rest) = right.split_at_mut(first * columns);
        let own = &mut rest[..rows * columns];
        weights.clear();
        weights.extend((0..first).map(|j| in_tile(rows, |i| factor[(first + i) * size + j])));
        eliminate(simd, own, done, &weights, columns);
        for i in 0..rows {
            let (above, row) = own.split_at_mut(i * columns);
            let row = &mut row[..columns];
            for (k, other) in above.chunks_exact(columns).enumerate() {
                subtract(row, other, factor[(first + i) * size + first + k]);
            }
            divide(row, factor[(first + i) * size + first + i]);
        }
    }
    for (first, rows) in tiles().rev() {
        let (rest, done) = right.split_at_mut((first + rows) * columns);
        let own = &mut rest[first * columns..];
        weights.clear();
        weights.extend((first + rows..size).map(|j| in_tile(rows, |i| factor[j * size + first + i])));
        eliminate(simd, own, done, &weights, columns);
        for i in (0..rows).rev() {
            let (row, below) = own[i * columns..].split_at_mut(columns);
            for (k, other) in (i + 1..).zip(below.chunks_exact(columns)) {
                subtract(row, other, factor[(first + k) * size + first + i]);
            }
            divide(row, factor[(first + i) * size + first + i]);
        }
    }
}

/// What `of` has for each of so many rows of a tile.
#[inline(always)]
fn in_tile(rows: usize, of: impl Fn(usize) -> f64) -> [f64; TILE] {
    let mut tile = [0.0; TILE];
    tile.iter_mut().take(rows).enumerate().for_each(|(i, x)| *x = of(i));
    tile
}

/// Takes `weights` times the rows `done` from a tile of rows.
#[inline(always)]
fn eliminate<S: Simd>(simd: S, own: &mut [f64], done: &[f64], weights: &[[f64; TILE]], columns: usize) {
    let wide = if own.len() == TILE * columns { columns - columns % (2 * S::F64_LANES) } else { 0 };
    for first in (0..wide).step_by(2 * S::F64_LANES) {
        let within = first..first + 2 * S::F64_LANES;
        let mut sums = [[simd.splat_f64s(0.0); 2]; TILE];
        for (done, weights) in done.chunks_exact(columns).zip(weights) {
            let (done, _) = S::as_simd_f64s(&done[within.clone()]);
            for (sums, weight) in sums.iter_mut().zip(weights) {
                let weight = simd.splat_f64s(*weight);
                for (sum, done) in sums.iter_mut().zip(done) {
                    *sum = simd.mul_add_f64s(weight, *done, *sum);
                }
            }
        }
        for (row, sums) in own.chunks_exact_mut(columns).zip(sums) {
            let (row, _) = S::as_mut_simd_f64s(&mut row[within.clone()]);
            row.iter_mut().zip(sums).for_each(|(x, sum)| *x = simd.sub_f64s(*x, sum));
        }
    }
    if wide < columns {
        for (done, weights) in done.chunks_exact(columns).zip(weights) {
            for (row, weight) in own.chunks_exact_mut(columns).zip(weights) {
                subtract(&mut row[wide..], &done[wide..], *weight);
            }
        }
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

/// Dot products of each of four rows with each of two, all of one length.
#[inline(always)]
fn dots<S: Simd>(simd: S, rows: [&[f64]; TILE], others: [&[f64]; 2]) -> [[f64; 2]; TILE] {
    let [(a, a_end), (b, b_end), (c, c_end), (d, d_end)] = rows.map(S::as_simd_f64s);
    let [(x, x_end), (y, y_end)] = others.map(S::as_simd_f64s);
    let mut sums = [[simd.splat_f64s(0.0); 2]; TILE];
    for (((((a, b), c), d), x), y) in a.iter().zip(b).zip(c).zip(d).zip(x).zip(y) {
        for (sums, row) in sums.iter_mut().zip([*a, *b, *c, *d]) {
            sums[0] = simd.mul_add_f64s(row, *x, sums[0]);
            sums[1] = simd.mul_add_f64s(row, *y, sums[1]);
        }
    }
    let mut out = [[0.0; 2]; TILE];
    for ((out, sums), row) in out.iter_mut().zip(sums).zip([a_end, b_end, c_end, d_end]) {
        for ((out, sum), other) in out.iter_mut().zip(sums).zip([x_end, y_end]) {
            *out = simd.reduce_sum_f64s(sum) + row.iter().zip(other).map(|(x, y)| x * y).sum::<f64>();
        }
    }
    out
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
        for (size, columns) in [(1, 1), (3, 2), (4, 16), (21, 3), (64, 64), (67, 37)] {
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
                assert!((got - want).abs() < 1e-9, "{size} rows, {columns} columns: {got} against {want}");
            }
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
