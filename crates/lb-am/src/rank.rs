//! How many directions a cache uses: the effective rank of its keys and values.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::LayerKv;

/// Sweeps of rotations at most; a handful is enough for any matrix of this size.
const SWEEPS: usize = 60;

/// What is left beside the diagonal, over the diagonal's sum.
const NOTHING: f64 = 1e-14;

/// Effective ranks of the keys and of the values of a layer, one number for each KV head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerRanks {
    /// Of the keys, 1 to the number of slots or the head's width, whichever is less.
    pub keys: Vec<f64>,
    /// Of the values.
    pub values: Vec<f64>,
}

/// The effective rank of a matrix: exp of the entropy of its singular values, divided by their sum (Roy and Vetterli, *The effective
/// rank: a measure of effective dimensionality*, EUSIPCO 2007). 1 for rows that are multiples of one another, d for d directions of
/// one size, 0 for nothing but zeros.
///
/// # Shapes
///
/// `matrix` is `[rows, d]`, any float dtype.
///
/// # Numerics
///
/// In f64, from the eigenvalues of `matrixᵀ matrix` by Jacobi's rotations: singular values below 1e-8 of the largest are noise, and add
/// nothing that can be seen.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::Empty`], [`Error::NonFinite`], [`Error::Tensor`].
pub fn effective_rank(matrix: &Tensor) -> Result<f64> {
    let &[rows, d] = matrix.dims() else {
        let (expected, got) = ("[rows, d]".to_owned(), matrix.dims().to_vec());
        return Err(Error::Shape { arg: "matrix", expected, got });
    };
    if rows == 0 || d == 0 {
        return Err(Error::Empty { arg: "matrix" });
    }
    let numbers = matrix.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let rank = of_rows(numbers.chunks_exact(d), d);
    if rank.is_finite() { Ok(rank) } else { Err(Error::NonFinite { arg: "matrix", layer: 0 }) }
}

/// The effective ranks of each head's keys and values, slots that fill up shorter heads (a bias of −∞) left out.
///
/// # Errors
///
/// Those of [`LayerKv::new`], [`Error::NonFinite`].
pub fn layer_ranks(layer: &LayerKv) -> Result<LayerRanks> {
    layer.check()?;
    let live = layer.bias.as_ref().map(Tensor::to_vec2::<f32>).transpose()?;
    let is_live =
        |head: usize, slot: usize| live.as_ref().is_none_or(|bias| bias[head][slot] != f32::NEG_INFINITY);
    let (slots, d) = (layer.seq_len(), layer.head_dim());
    let of = |x: &Tensor, arg: &'static str| -> Result<Vec<f64>> {
        let numbers = x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let ranks = numbers.chunks_exact(slots * d).enumerate().map(|(head, numbers)| {
            let rows = numbers.chunks_exact(d).enumerate().filter(|(slot, _)| is_live(head, *slot));
            of_rows(rows.map(|(_, row)| row), d)
        });
        let ranks: Vec<f64> = ranks.collect();
        if ranks.iter().all(|rank| rank.is_finite()) {
            Ok(ranks)
        } else {
            Err(Error::NonFinite { arg, layer: 0 })
        }
    };
    Ok(LayerRanks { keys: of(&layer.keys, "keys")?, values: of(&layer.values, "values")? })
}

/// exp(−Σ p ln p) with p the singular values over their sum; NaN where a number is none.
fn of_rows<'a>(rows: impl Iterator<Item = &'a [f64]>, d: usize) -> f64 {
    let mut gram = vec![0.0; d * d];
    for row in rows {
        for (i, x) in row.iter().enumerate() {
            for (sum, y) in gram[i * d..=i * d + i].iter_mut().zip(row) {
                *sum += x * y;
            }
        }
    }
    for i in 0..d {
        for j in 0..i {
            gram[j * d + i] = gram[i * d + j];
        }
    }
    if gram.iter().any(|x| !x.is_finite()) {
        return f64::NAN;
    }
    // Eigenvalues are exact to the rounding of the largest; a root would make much of what is left where there is nothing.
    let trace: f64 = (0..d).map(|i| gram[i * d + i]).sum();
    let noise = d as f64 * f64::EPSILON * trace;
    let singular: Vec<f64> =
        eigenvalues(&mut gram, d).into_iter().map(|x| if x > noise { x.sqrt() } else { 0.0 }).collect();
    let sum: f64 = singular.iter().sum();
    if sum == 0.0 {
        return 0.0;
    }
    let entropy = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
    singular.into_iter().map(|x| entropy(x / sum)).sum::<f64>().exp()
}

/// Of a symmetric matrix `[d, d]`, which is turned into a diagonal one.
fn eigenvalues(a: &mut [f64], d: usize) -> Vec<f64> {
    let trace: f64 = (0..d).map(|i| a[i * d + i].abs()).sum();
    for _ in 0..SWEEPS {
        let beside: f64 =
            (0..d).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * d + j].powi(2)).sum();
        if beside.sqrt() <= NOTHING * trace {
            break;
        }
        for p in 0..d {
            for q in p + 1..d {
                rotate(a, d, p, q);
            }
        }
    }
    (0..d).map(|i| a[i * d + i]).collect()
}

/// The rotation of rows and columns `p` and `q` that leaves 0 where they meet.
fn rotate(a: &mut [f64], d: usize, p: usize, q: usize) {
    let apq = a[p * d + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * d + q] - a[p * d + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..d {
        let (x, y) = (a[k * d + p], a[k * d + q]);
        (a[k * d + p], a[k * d + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..d {
        let (x, y) = (a[p * d + k], a[q * d + k]);
        (a[p * d + k], a[q * d + k]) = (c * x - s * y, s * x + c * y);
    }
}
