//! Orthogonal BackFill: what the kept values cannot express is added to them.

use super::{Head, row};

/// A row whose part outside the span is below this share of its norm lies in the span.
const IN_SPAN: f64 = 1e-6;
/// Rounds of power iteration for one axis, at most.
const ROUNDS: usize = 300;
/// Power iteration has arrived where the square of a step is below this.
const ARRIVED: f64 = 1e-18;

/// See [`Folding::Backfill`](crate::Folding::Backfill).
///
/// With X the values that stay, R the part of those that go outside the rows' span of X, C the principal axes of R (not
/// centred) and r the mean of R by attention a, every kept value changes by CᵀC r · Σ a_gone / Σ a_kept.
pub(super) fn backfill(head: &mut Head<'_>, rank: usize) {
    let width = head.width;
    let attention = |slots: &[usize]| -> f64 { slots.iter().map(|slot| f64::from(head.scores[*slot])).sum() };
    let (stays, goes) = (attention(&head.into), attention(&head.gone));
    if head.into.len() >= width || stays <= 0.0 {
        return;
    }
    let value =
        |slot: usize| -> Vec<f64> { row(head.values, width, slot).iter().map(|x| f64::from(*x)).collect() };
    let basis = basis(head.into.iter().map(|slot| value(*slot)));
    let mut mean = vec![0.0; width];
    let mut gram = vec![0.0; width * width];
    for slot in &head.gone {
        let mut rest = value(*slot);
        remove(&basis, &mut rest);
        let share =
            if goes > 0.0 { f64::from(head.scores[*slot]) / goes } else { 1.0 / head.gone.len() as f64 };
        mean.iter_mut().zip(&rest).for_each(|(sum, x)| *sum += share * x);
        for (line, x) in gram.chunks_exact_mut(width).zip(&rest) {
            line.iter_mut().zip(&rest).for_each(|(sum, y)| *sum += x * y);
        }
    }
    let mut change = vec![0.0; width];
    for axis in axes(gram, width, rank) {
        let along = dot(&axis, &mean) * goes / stays;
        change.iter_mut().zip(&axis).for_each(|(sum, x)| *sum += along * x);
    }
    for slot in &head.into {
        let value = &mut head.values[slot * width..][..width];
        value.iter_mut().zip(&change).for_each(|(x, more)| *x = (f64::from(*x) + more) as f32);
    }
}

/// An orthonormal basis of the span of some rows, by modified Gram-Schmidt.
fn basis(rows: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for mut row in rows {
        let before = dot(&row, &row).sqrt();
        // Twice is enough for rows that nearly lie in the span.
        remove(&basis, &mut row);
        remove(&basis, &mut row);
        let norm = dot(&row, &row).sqrt();
        if norm > IN_SPAN * before {
            for x in &mut row {
                *x /= norm;
            }
            basis.push(row);
        }
    }
    basis
}

/// Takes the part inside the span out of a row.
fn remove(basis: &[Vec<f64>], row: &mut [f64]) {
    for axis in basis {
        let along = dot(axis, row);
        row.iter_mut().zip(axis).for_each(|(x, a)| *x -= along * a);
    }
}

/// The first `rank` eigenvectors of a matrix RᵀR `[width, width]`, fewer where it has fewer, by power iteration.
fn axes(mut gram: Vec<f64>, width: usize, rank: usize) -> Vec<Vec<f64>> {
    let trace: f64 = (0..width).map(|i| gram[i * width + i]).sum();
    let mut axes = Vec::new();
    for _ in 0..rank.min(width) {
        let Some((largest, diagonal)) = (0..width)
            .map(|i| (i, gram[i * width + i]))
            .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
        else {
            break;
        };
        // What is left is rounding.
        if diagonal <= 1e-12 * trace {
            break;
        }
        let mut axis = gram[largest * width..][..width].to_vec();
        scale_to_one(&mut axis);
        let mut value = 0.0;
        for _ in 0..ROUNDS {
            let mut next: Vec<f64> = gram.chunks_exact(width).map(|line| dot(line, &axis)).collect();
            value = scale_to_one(&mut next);
            let step: f64 = next.iter().zip(&axis).map(|(a, b)| (a - b).powi(2)).sum();
            axis = next;
            if step < ARRIVED {
                break;
            }
        }
        for (line, x) in gram.chunks_exact_mut(width).zip(&axis) {
            line.iter_mut().zip(&axis).for_each(|(g, y)| *g -= value * x * y);
        }
        axes.push(axis);
    }
    axes
}

/// Divides by the norm and returns it.
fn scale_to_one(row: &mut [f64]) -> f64 {
    let norm = dot(row, row).sqrt().max(f64::MIN_POSITIVE);
    for x in row.iter_mut() {
        *x /= norm;
    }
    norm
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::{axes, basis, dot};

    #[test]
    fn a_basis_is_orthonormal_and_leaves_out_what_lies_in_it() {
        let rows = vec![vec![1.0, 2.0, 0.0], vec![2.0, 4.0, 0.0], vec![0.0, 1.0, 1.0]];
        let basis = basis(rows.into_iter());
        assert_eq!(basis.len(), 2);
        assert!((dot(&basis[0], &basis[0]) - 1.0).abs() < 1e-12 && dot(&basis[0], &basis[1]).abs() < 1e-12);
    }

    #[test]
    fn axes_are_those_of_the_largest_eigenvalues() {
        // 9 along (3, 4) / 5, 4 along (4, -3) / 5, 1 along the third.
        let (a, b) = ([0.6, 0.8, 0.0], [0.8, -0.6, 0.0]);
        let gram: Vec<f64> = (0..9)
            .map(|i| (i / 3, i % 3))
            .map(|(i, j)| 9.0 * a[i] * a[j] + 4.0 * b[i] * b[j] + if i == 2 && j == 2 { 1.0 } else { 0.0 })
            .collect();
        let found = axes(gram.clone(), 3, 2);
        assert!((dot(&found[0], &a).abs() - 1.0).abs() < 1e-9);
        assert!((dot(&found[1], &b).abs() - 1.0).abs() < 1e-9);
        assert_eq!(axes(gram, 3, 9).len(), 3);
        assert!(axes(vec![0.0; 9], 3, 2).is_empty());
    }
}
