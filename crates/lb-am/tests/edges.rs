//! Degenerate caches, and promises about the input.

use candle_core::{DType, Device, Tensor};
use lb_am::{Budget, Compacted, LayerKv, Protected, Selection, ValuesMethod, compact, compact_at};

use super::{BARE, bits, pairs, run, slots};
use crate::support::caches::{Case, SMALL, random};
use crate::support::layered::Layered;
use crate::support::oracle::relative_error;

fn finite(compacted: &Compacted) {
    for layer in &compacted.layers {
        for tensor in [&layer.keys, &layer.values, &layer.bias] {
            let wide = tensor.to_dtype(DType::F32).unwrap();
            let values: Vec<f32> = wide.flatten_all().unwrap().to_vec1().unwrap();
            assert!(values.iter().all(|value| value.is_finite()));
        }
    }
}

fn one(keys: Tensor, values: Tensor, queries: Tensor) -> Case {
    Case { layers: vec![LayerKv::new(keys, values, None).unwrap()], queries: vec![queries] }
}

#[test]
fn keeping_everything_changes_nothing() {
    for dtype in [DType::F32, DType::BF16] {
        // The carried bias is one that bf16 cannot hold.
        let case = random(SMALL, 1.0, 51).to_dtype(dtype).with_bias(|_, j| j as f32 * 0.010_101);
        for values in [ValuesMethod::Copy, ValuesMethod::default(), ValuesMethod::LeastSquares] {
            let compacted = run(&case, &Layered::keep_ratio(1.0).with_values(values));
            for (layer, small) in case.layers.iter().zip(&compacted.layers) {
                assert_eq!(bits(&small.keys), bits(&layer.keys));
                assert_eq!(bits(&small.values), bits(&layer.values));
                assert_eq!(bits(&small.bias), bits(layer.bias.as_ref().unwrap()));
                assert_eq!(slots(small), (0..48).collect::<Vec<_>>());
            }
        }
    }
    let compacted = run(&random(SMALL, 1.0, 51), &Layered::kept_len(500));
    assert!(compacted.layers.iter().all(|layer| bits(&layer.bias).iter().all(|b| *b == 0)));
    assert!(compacted.report.beta.unwrap().mass_error_after.abs() < f64::EPSILON);
}

#[test]
fn one_position_is_enough() {
    let dims = crate::support::caches::Dims { seq_len: 1, ..SMALL };
    let case = random(dims, 1.0, 52);
    for config in [Layered::mad(2.0), Layered::keep_ratio(0.01), Layered::kept_len(1)] {
        for protect in [Protected::default(), BARE] {
            let compacted = run(&case, &config.clone().with_protect(protect));
            assert_eq!(slots(&compacted.layers[0]), [0]);
            assert_eq!(bits(&compacted.layers[0].values), bits(&case.layers[0].values));
        }
    }
}

#[test]
fn one_kept_position_of_many() {
    let case = random(SMALL, 1.0, 53);
    let compacted = run(&case, &Layered::kept_len(1).with_protect(BARE));
    assert_eq!(compacted.report.kept_len, 1);
    finite(&compacted);
}

/// Every key twice: the systems are rank deficient, and one copy can stand in for both.
#[test]
fn duplicate_keys_are_absorbed() {
    let half = random(SMALL, 1.0, 54);
    let twice = |tensor: &Tensor| Tensor::cat(&[tensor, tensor], 1).unwrap();
    let double = |layer: &LayerKv| LayerKv::new(twice(&layer.keys), twice(&layer.values), None).unwrap();
    let case = Case { layers: half.layers.iter().map(double).collect(), queries: half.queries };
    for values in [ValuesMethod::default(), ValuesMethod::LeastSquares] {
        let config = Layered::keep_ratio(0.5).with_values(values);
        finite(&run(&case, &config));
        let first: Vec<u32> = (0..48).collect();
        let compacted = compact_at(&case.layers, &case.queries, &[first.into()], &config).unwrap();
        let fit = compacted.report.beta.as_ref().unwrap();
        assert!((fit.mass_error_before - 0.5).abs() < 1e-5 && fit.mass_error_after < 1e-5, "{fit:?}");
        for (full, briefed, _) in pairs(&case, &compacted) {
            let error = relative_error(&briefed.attend().output, &full.attend().output);
            assert!(error < 1e-5, "{values:?}: {error}");
        }
    }
}

#[test]
fn constant_caches_stay_constant() {
    let fill = |value: f32, n: usize| Tensor::full(value, (2, n, 4), &Device::Cpu).unwrap();
    let case = one(fill(0.5, 40), fill(2.5, 40), fill(1.0, 3));
    let compacted = run(&case, &Layered::keep_ratio(0.2));
    let values: Vec<f32> = compacted.layers[0].values.flatten_all().unwrap().to_vec1().unwrap();
    assert!(values.iter().all(|value| (value - 2.5).abs() < 1e-5), "{values:?}");
    // Five times as many were there, within e^3: the eight that stay carry the mass of forty.
    let bias: Vec<f32> = compacted.layers[0].bias.flatten_all().unwrap().to_vec1().unwrap();
    assert!(bias.iter().all(|bias| (bias - 5f32.ln()).abs() < 1e-4), "{bias:?}");
}

#[test]
fn zero_values_and_zero_queries_are_fine() {
    let zeros = |n: usize| Tensor::zeros((2, n, 4), DType::F32, &Device::Cpu).unwrap();
    let keys = Tensor::ones((2, 40, 4), DType::F32, &Device::Cpu).unwrap();
    let case = one(keys, zeros(40), zeros(3));
    let compacted = run(&case, &Layered::keep_ratio(0.2));
    finite(&compacted);
    let fit = compacted.report.values.unwrap();
    assert!(fit.output_error_before.abs() < 1e-9 && fit.output_error_after.abs() < 1e-9);
}

#[test]
fn the_full_cache_is_untouched_and_shares_nothing_with_the_result() {
    let case = random(SMALL, 1.0, 55);
    let before: Vec<_> = case.layers.iter().map(|l| (bits(&l.keys), bits(&l.values))).collect();
    for config in [Layered::keep_ratio(0.2), Layered::keep_ratio(1.0)] {
        let compacted = run(&case, &config);
        // Writing into the result does not reach the input.
        for layer in &compacted.layers {
            let row = Tensor::zeros((2, 1, 8), DType::F32, &Device::Cpu).unwrap();
            layer.keys.slice_set(&row, 1, 0).unwrap();
            layer.values.slice_set(&row, 1, 0).unwrap();
        }
        let after: Vec<_> = case.layers.iter().map(|l| (bits(&l.keys), bits(&l.values))).collect();
        assert_eq!(before, after);
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let case = random(SMALL, 1.0, 56);
    let config = Layered::mad(1.0);
    let (a, b) = (run(&case, &config), run(&case, &config));
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!(slots(a), slots(b));
        for (a, b) in [(&a.keys, &b.keys), (&a.values, &b.values), (&a.bias, &b.bias)] {
            assert_eq!(bits(a), bits(b));
        }
    }
    assert_eq!(a.report.scores, b.report.scores);
}

/// Views into a larger buffer, as a growing cache hands out.
#[test]
fn strided_views_give_the_same_result() {
    let case = random(SMALL, 1.0, 57);
    let view = |tensor: &Tensor| {
        let padded = Tensor::cat(&[tensor, &tensor.ones_like().unwrap()], 1).unwrap();
        padded.narrow(1, 0, tensor.dim(1).unwrap()).unwrap()
    };
    let strided = Case {
        layers: case
            .layers
            .iter()
            .map(|l| LayerKv::new(view(&l.keys), view(&l.values), None).unwrap())
            .collect(),
        queries: case.queries.iter().map(view).collect(),
    };
    assert!(!strided.layers[0].keys.is_contiguous());
    let config = Layered::keep_ratio(0.3);
    let (a, b) = (run(&case, &config), run(&strided, &config));
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!(slots(a), slots(b));
        assert_eq!(bits(&a.values), bits(&b.values));
        assert_eq!(bits(&a.bias), bits(&b.bias));
    }
}

#[test]
fn compact_at_takes_the_selection_of_compact() {
    let case = random(SMALL, 1.0, 58);
    for mask in [Selection::shared(), Selection::per_layer()] {
        let config = Layered::keep_ratio(0.3).with_selection(mask);
        let free = run(&case, &config);
        let kept: Vec<_> = free.layers.iter().map(|layer| layer.kept.clone()).collect();
        let at = compact_at(&case.layers, &case.queries, &kept, &config).unwrap();
        assert_eq!(at.report.mask.limit, lb_am::CountLimit::Given);
        for (a, b) in free.layers.iter().zip(&at.layers) {
            assert_eq!(slots(a), slots(b));
            assert_eq!(bits(&a.values), bits(&b.values));
            assert_eq!(bits(&a.bias), bits(&b.bias));
        }
    }
}

#[test]
fn reports_survive_serialisation() {
    let case = random(SMALL, 1.0, 59);
    let budget = Budget::Mad { tau: 1.0, min_kept: 4, max_ratio: 0.9 };
    let config = Layered::with_budget(budget).with_selection(Selection::per_layer());
    let report = compact(&case.layers, &case.queries, &config).unwrap().report;
    let text = serde_json::to_string(&report).unwrap();
    let back: lb_am::Report = serde_json::from_str(&text).unwrap();
    assert_eq!(back.mask.limit, report.mask.limit);
    assert_eq!((back.scores, back.timing), (report.scores, report.timing));
}
