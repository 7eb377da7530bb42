//! Effective ranks of matrices whose singular values are known.

use candle_core::{DType, Device, Tensor};
use lb_am::{Error, LayerKv, effective_rank, layer_ranks};

/// What Jacobi's rotations leave.
const EXACT: f64 = 1e-9;

fn tensor(rows: &[&[f64]]) -> Tensor {
    let numbers = rows.concat();
    Tensor::from_vec(numbers, (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
}

fn rank(rows: &[&[f64]]) -> f64 {
    effective_rank(&tensor(rows)).unwrap()
}

/// exp of the entropy, by hand.
fn expected(singular: &[f64]) -> f64 {
    let sum: f64 = singular.iter().sum();
    singular.iter().filter(|x| **x > 0.0).map(|x| -(x / sum) * (x / sum).ln()).sum::<f64>().exp()
}

/// A rotation of the plane of two axes changes no singular value, on either side.
fn turned(x: &Tensor, axes: (usize, usize), angle: f64) -> Tensor {
    let d = x.dims()[1];
    let mut turn = vec![0.0; d * d];
    (0..d).for_each(|i| turn[i * d + i] = 1.0);
    let (p, q) = axes;
    (turn[p * d + p], turn[q * d + q]) = (angle.cos(), angle.cos());
    (turn[p * d + q], turn[q * d + p]) = (angle.sin(), -angle.sin());
    x.matmul(&Tensor::from_vec(turn, (d, d), &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn matrices_of_known_singular_values() {
    assert!((rank(&[&[3.0, 0.0], &[0.0, 3.0]]) - 2.0).abs() < EXACT);
    assert!((rank(&[&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]]) - 1.0).abs() < 1e-6, "rows of one direction");
    assert!((rank(&[&[4.0, 0.0, 0.0], &[0.0, -1.0, 0.0]]) - expected(&[4.0, 1.0])).abs() < EXACT);
    assert!(rank(&[&[0.0, 0.0], &[0.0, 0.0]]).abs() < EXACT);
    // Fewer rows than columns, more rows than columns, the same matrix on its side.
    let wide = tensor(&[&[1.0, 2.0, 0.5, 3.0], &[-2.0, 0.0, 1.0, 1.0]]);
    let (one, other) = (effective_rank(&wide).unwrap(), effective_rank(&wide.t().unwrap()).unwrap());
    assert!((one - other).abs() < 1e-6, "{one} {other}");
}

/// Eight singular values in 64 columns, turned until no number is 0 any more.
#[test]
fn rotations_change_no_rank() {
    let singular = [9.0, 5.0, 5.0, 2.0, 1.0, 0.5, 0.1, 0.01];
    let mut numbers = vec![0.0; 8 * 64];
    singular.iter().enumerate().for_each(|(i, x)| numbers[i * 64 + i] = *x);
    let mut x = Tensor::from_vec(numbers, (8, 64), &Device::Cpu).unwrap();
    for step in 0..200 {
        let (p, q) = (step % 64, (step * 7 + 1) % 64);
        if p != q {
            x = turned(&x, (p, q), 0.3 + step as f64);
        }
    }
    let found = effective_rank(&x).unwrap();
    assert!((found - expected(&singular)).abs() < 1e-6, "{found} {}", expected(&singular));
    let narrow = effective_rank(&x.to_dtype(DType::F32).unwrap()).unwrap();
    assert!((narrow - found).abs() < 1e-4, "{narrow} {found}");
}

/// By head; what fills up a shorter head counts for nothing.
#[test]
fn layers_are_ranked_head_by_head() {
    let keys = [[1f32, 0.0, 0.0, 1.0, 1.0, 0.0], [2.0, 2.0, 1.0, 1.0, 5.0, -7.0]].concat();
    let keys = Tensor::from_vec(keys, (2, 3, 2), &Device::Cpu).unwrap();
    let bias = Tensor::from_vec(
        vec![0f32, 0.0, f32::NEG_INFINITY, 0.5, 0.0, f32::NEG_INFINITY],
        (2, 3),
        &Device::Cpu,
    );
    let layer = LayerKv::new(keys.clone(), keys.affine(2.0, 0.0).unwrap(), Some(bias.unwrap())).unwrap();
    let ranks = layer_ranks(&layer).unwrap();
    assert_eq!(ranks.keys.len(), 2);
    assert!((ranks.keys[0] - 2.0).abs() < EXACT && (ranks.keys[1] - 1.0).abs() < 1e-6, "{ranks:?}");
    assert!(ranks.keys.iter().zip(&ranks.values).all(|(k, v)| (k - v).abs() < 1e-6), "{ranks:?}");
    let whole = layer_ranks(&LayerKv { bias: None, ..layer }).unwrap();
    assert!(whole.keys[1] > 1.5, "{whole:?}");
}

#[test]
fn what_has_no_rank_is_an_error() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(effective_rank(&zeros(&[2, 2, 2])), Err(Error::Shape { arg: "matrix", .. })));
    assert!(matches!(effective_rank(&zeros(&[0, 2])), Err(Error::Empty { arg: "matrix" })));
    let nan = tensor(&[&[1.0, f64::NAN], &[0.0, 1.0]]);
    assert!(matches!(effective_rank(&nan), Err(Error::NonFinite { arg: "matrix", .. })));
    let layer = LayerKv::new(zeros(&[1, 2, 2]), (zeros(&[1, 2, 2]) / 0.0).unwrap(), None).unwrap();
    assert!(matches!(layer_ranks(&layer), Err(Error::NonFinite { arg: "values", .. })));
}
