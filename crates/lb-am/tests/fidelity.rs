//! Errors and sizes of a compacted cache against plain loops.

use candle_core::{DType, Tensor};
use lb_am::{Error, Fidelity, HeadBudgets, Selection, compact};

use crate::support::caches::{SMALL, random, scene};
use crate::support::layered::Layered;

/// f32 attention against f64.
const TOLERANCE: f64 = 1e-5;

type Rows = Vec<Vec<f64>>;

fn rows(tensor: &Tensor, head: usize) -> Rows {
    tensor.get(head).unwrap().to_dtype(DType::F64).unwrap().to_vec2().unwrap()
}

fn bias(tensor: &Tensor, head: usize) -> Vec<f64> {
    tensor.get(head).unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Output and unshifted mass of one query.
fn attend(query: &[f64], keys: &Rows, values: &Rows, bias: &[f64]) -> (Vec<f64>, f64) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let scale = (query.len() as f64).sqrt();
    let weights: Vec<f64> =
        keys.iter().zip(bias).map(|(key, b)| (dot(query, key) / scale + b).exp()).collect();
    let mass: f64 = weights.iter().sum();
    let column = |i: usize| weights.iter().zip(values).map(|(w, value)| w / mass * value[i]).sum();
    ((0..query.len()).map(column).collect(), mass)
}

#[test]
fn errors_are_those_of_plain_loops() {
    let scene = scene(SMALL, 4);
    let case = scene.task.with_bias(|head, slot| ((head + slot) as f32).sin());
    let config = Layered::keep_ratio(0.25).with_selection(Selection::per_head());
    let small = compact(&case.layers, &case.queries, &config).unwrap().layers;
    let measured = Fidelity::measure(&case.layers, &small, &scene.answer).unwrap();
    let (mut error, mut norm, mut queries) = (0.0, 0.0, 0);
    for (index, (layer, small)) in case.layers.iter().zip(&small).enumerate() {
        for head in 0..layer.kv_heads() {
            let (mut squares, mut mass_error, mut cosine) = (Vec::new(), 0.0, 0.0);
            for query in rows(&scene.answer[index], head) {
                let full = bias(layer.bias.as_ref().unwrap(), head);
                let (want, full_mass) =
                    attend(&query, &rows(&layer.keys, head), &rows(&layer.values, head), &full);
                let less = bias(&small.bias, head);
                let (got, mass) = attend(&query, &rows(&small.keys, head), &rows(&small.values, head), &less);
                let square: f64 = want.iter().zip(&got).map(|(w, g)| (w - g).powi(2)).sum();
                let along: f64 = want.iter().zip(&got).map(|(w, g)| w * g).sum();
                let length = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
                cosine += along / (length(&want) * length(&got)).sqrt();
                mass_error += (mass / full_mass - 1.0).abs();
                (error, norm, queries) = (error + square, norm + length(&want), queries + 1);
                squares.push(square / want.len() as f64);
            }
            let (n, errors) = (squares.len() as f64, &measured.heads[index][head]);
            let close = |got: f64, want: f64| assert!((got - want).abs() < TOLERANCE, "{got} against {want}");
            close(errors.mse_mean, squares.iter().sum::<f64>() / n);
            close(errors.mse_max, squares.iter().copied().fold(0.0, f64::max));
            close(errors.mse_rms, (squares.iter().map(|s| s * s).sum::<f64>() / n).sqrt());
            close(errors.cosine, cosine / n);
            close(errors.mass_error, mass_error / n);
        }
    }
    assert!((measured.total.relative_l2 - (error / norm).sqrt()).abs() < TOLERANCE);
    assert_eq!(measured.total.queries, queries);
}

#[test]
fn a_whole_cache_has_no_error() {
    let case = random(SMALL, 1.0, 3);
    let done = compact(&case.layers, &case.queries, &Layered::keep_ratio(1.0)).unwrap();
    let measured = Fidelity::measure(&case.layers, &done.layers, &case.queries).unwrap();
    assert!(measured.total.relative_l2 < 1e-6 && measured.total.mass_error < 1e-6);
    assert!((measured.total.cosine - 1.0).abs() < 1e-6);
    assert_eq!(measured.sizes.kept, measured.sizes.full);
}

#[test]
fn padding_takes_slots_but_no_bytes() {
    let case = random(SMALL, 1.0, 3).to_dtype(DType::BF16);
    let budgets = HeadBudgets { shares: vec![vec![0.4, 0.1], vec![0.3, 0.2]] };
    let config = Layered::kept_len(12)
        .with_selection(Selection::per_head())
        .with_head_budgets(budgets)
        .selection_only();
    let done = compact(&case.layers, &case.queries, &config).unwrap();
    let sizes = Fidelity::measure(&case.layers, &done.layers, &case.queries).unwrap().sizes;
    assert_eq!((sizes.kept, sizes.full), (48, 192));
    assert!(sizes.stored > sizes.kept, "{sizes:?}");
    // 8 numbers of 2 bytes in a key and in a value, and a bias.
    assert_eq!((sizes.bytes, sizes.full_bytes), (48 * 36, 192 * 32));
    assert!((sizes.bytes_ratio - 48.0 * 36.0 / (192.0 * 32.0)).abs() < 1e-12);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let case = random(SMALL, 1.0, 3);
    let done = compact(&case.layers, &case.queries, &Layered::keep_ratio(0.5)).unwrap().layers;
    let error = Fidelity::measure(&case.layers, &done[..1], &case.queries).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "compacted", .. }), "{error}");
    let mut wrong = done.clone();
    wrong[1].bias = wrong[1].bias.narrow(1, 0, 3).unwrap();
    let error = Fidelity::measure(&case.layers, &wrong, &case.queries).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "bias", .. }), "{error}");
    let narrow = random(crate::support::caches::Dims { head_dim: 4, ..SMALL }, 1.0, 3).layers;
    let error = Fidelity::measure_caches(&case.layers, &narrow, &case.queries).unwrap_err();
    assert!(matches!(error, Error::Layer { index: 0, .. }), "{error}");
}
