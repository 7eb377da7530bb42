//! Bad input is refused with an error that names it.

use candle_core::{DType, Device, Tensor};
use lb_am::{BetaMethod, HeadAgg, Kept, ScoreAgg, ValuesMethod};
use lb_am::{
    Compaction, Error, LayerKv, Selection, compact, compact_at, known_finite, layer_position_scores,
    position_scores,
};

use crate::support::caches::{Case, SMALL, random};
use crate::support::layered::Layered;

fn zeros(dims: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(dims, dtype, &Device::Cpu).unwrap()
}

fn f32s(dims: &[usize]) -> Tensor {
    zeros(dims, DType::F32)
}

/// The error of compacting `case`, which scoring must share.
fn error(case: &Case) -> Error {
    let scored =
        layer_position_scores(&case.layers, &case.queries, ScoreAgg::Mean, HeadAgg::Mean).unwrap_err();
    let error = compact(&case.layers, &case.queries, &Layered::keep_ratio(0.5)).unwrap_err();
    assert_eq!(format!("{scored:?}"), format!("{error:?}"));
    error
}

/// The error within layer 1.
fn inner(case: &Case) -> Error {
    match error(case) {
        Error::Layer { index: 1, source } => *source,
        other => panic!("{other:?}"),
    }
}

fn with_value(tensor: &Tensor, value: f32) -> Tensor {
    let mut data = tensor.to_vec3::<f32>().unwrap();
    data[1][3][2] = value;
    Tensor::new(data, &Device::Cpu).unwrap()
}

#[test]
fn layers_are_checked_when_built() {
    let kv = f32s(&[2, 5, 4]);
    let shape = |keys: &Tensor, values: &Tensor, bias: Option<Tensor>| match LayerKv::new(
        keys.clone(),
        values.clone(),
        bias,
    ) {
        Err(Error::Shape { arg, .. }) => arg,
        other => panic!("{other:?}"),
    };
    assert_eq!(shape(&f32s(&[5, 4]), &kv, None), "keys");
    assert_eq!(shape(&f32s(&[1, 2, 5, 4]), &kv, None), "keys");
    assert_eq!(shape(&kv, &f32s(&[2, 6, 4]), None), "values");
    assert_eq!(shape(&kv, &f32s(&[2, 5, 8]), None), "values");
    assert_eq!(shape(&kv, &kv, Some(f32s(&[2, 6]))), "bias");
    assert_eq!(shape(&kv, &kv, Some(f32s(&[5]))), "bias");

    let dtype = |keys: &Tensor, values: &Tensor, bias: Option<Tensor>| match LayerKv::new(
        keys.clone(),
        values.clone(),
        bias,
    ) {
        Err(Error::Dtype { arg, .. }) => arg,
        other => panic!("{other:?}"),
    };
    let doubles = zeros(&[2, 5, 4], DType::F64);
    assert_eq!(dtype(&doubles, &doubles, None), "keys");
    assert_eq!(dtype(&kv, &zeros(&[2, 5, 4], DType::BF16), None), "values");
    assert_eq!(dtype(&kv, &kv, Some(zeros(&[2, 5], DType::BF16))), "bias");

    for dims in [[0, 5, 4], [2, 0, 4], [2, 5, 0]] {
        let empty = f32s(&dims);
        assert!(matches!(LayerKv::new(empty.clone(), empty, None), Err(Error::Empty { arg: "keys" })));
    }
    let layer = LayerKv::new(kv.clone(), kv, None).unwrap();
    assert_eq!((layer.kv_heads(), layer.seq_len(), layer.head_dim(), layer.dtype()), (2, 5, 4, DType::F32));
}

#[test]
fn layers_are_checked_again_when_used() {
    let mut case = random(SMALL, 1.0, 81);
    case.layers[1].values = f32s(&[2, 47, 8]);
    assert!(matches!(inner(&case), Error::Shape { arg: "values", .. }));
    case.layers[1].keys = f32s(&[3]);
    assert!(matches!(inner(&case), Error::Shape { arg: "keys", .. }));
}

#[test]
fn nothing_to_work_on() {
    let case = Case { layers: vec![], queries: vec![] };
    assert!(matches!(error(&case), Error::Empty { arg: "layers" }));
    let mut case = random(SMALL, 1.0, 82);
    case.queries[1] = f32s(&[2, 0, 8]);
    assert!(matches!(inner(&case), Error::Empty { arg: "queries" }));
}

#[test]
fn queries_must_fit_their_layer() {
    let case = random(SMALL, 1.0, 83);
    let with = |queries: Tensor| {
        let mut case = case.clone();
        case.queries[1] = queries;
        inner(&case)
    };
    for dims in [vec![3, 6, 8], vec![2, 6, 4], vec![2, 8], vec![1, 2, 6, 8]] {
        let error = with(f32s(&dims));
        let Error::Shape { arg: "queries", expected, got } = error else { panic!("{error:?}") };
        assert_eq!((expected.as_str(), got), ("[2, n_queries, 8]", dims));
    }
    for dtype in [DType::F64, DType::BF16, DType::U32] {
        assert!(
            matches!(with(zeros(&[2, 6, 8], dtype)), Error::Dtype { arg: "queries", got, .. } if got == dtype)
        );
    }
    let mut short = case.clone();
    short.queries.pop();
    assert!(matches!(error(&short), Error::Shape { arg: "queries", got, .. } if got == [1]));
}

#[test]
fn nan_and_infinity_are_named() {
    let case = random(SMALL, 1.0, 84);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for arg in ["keys", "values", "queries", "bias"] {
            let mut case = case.clone();
            match arg {
                "keys" => case.layers[1].keys = with_value(&case.layers[1].keys, bad),
                "values" => case.layers[1].values = with_value(&case.layers[1].values, bad),
                "queries" => case.queries[1] = with_value(&case.queries[1], bad),
                // A bias of −∞ is padding.
                _ if bad == f32::NEG_INFINITY => continue,
                _ => {
                    let biased = case.with_bias(|_, j| if j == 3 { bad } else { 0.0 });
                    case.layers[1].bias = biased.layers[1].bias.clone();
                }
            }
            assert!(
                matches!(error(&case), Error::NonFinite { arg: at, layer: 1 } if at == arg),
                "{arg} {bad}"
            );
        }
    }
}

#[test]
fn numbers_are_looked_at_once() {
    let case = random(SMALL, 1.0, 84);
    let known = known_finite(case.layers.clone()).unwrap();
    assert!(known.iter().all(|layer| layer.finite) && !case.layers.iter().any(|layer| layer.finite));
    let with = |layers: &[LayerKv]| compact(layers, &case.queries, &Compaction::default()).unwrap();
    let (plain, looked_at) = (with(&case.layers), with(&known));
    for (a, b) in plain.layers.iter().zip(&looked_at.layers) {
        assert_eq!(a.kept, b.kept);
    }
    let mut bad = case.layers.clone();
    bad[1].values = with_value(&bad[1].values, f32::NAN);
    let error = known_finite(bad).unwrap_err();
    assert!(matches!(error, Error::NonFinite { arg: "values", layer: 1 }), "{error:?}");
}

#[test]
fn half_precision_infinities_are_found() {
    for dtype in [DType::F16, DType::BF16] {
        let mut case = random(SMALL, 1.0, 85).to_dtype(dtype);
        let bad = with_value(&case.layers[1].values.to_dtype(DType::F32).unwrap(), f32::INFINITY);
        case.layers[1].values = bad.to_dtype(dtype).unwrap();
        assert!(matches!(error(&case), Error::NonFinite { arg: "values", layer: 1 }));
    }
}

#[test]
fn logits_that_overflow_are_an_error() {
    let case = random(SMALL, 1.0, 86);
    let huge = |tensor: &Tensor| (tensor * 1e25).unwrap();
    let mut case = case;
    case.layers[0].keys = huge(&case.layers[0].keys);
    case.queries[0] = huge(&case.queries[0]);
    assert!(matches!(error(&case), Error::NonFinite { arg: "logits", layer: 0 }));
}

/// One query reads a large value that is dropped, the other does not, and the kept keys hardly tell them apart; so
/// least squares need values beyond what f16 can hold.
#[test]
fn fitted_values_that_overflow_the_cache_are_an_error() {
    let keys = Tensor::new(&[[[0f32, 0.4], [0.0, 0.0], [20.0, 0.0]]], &Device::Cpu).unwrap();
    let values = Tensor::new(&[[[1f32, 1.0], [1.0, 1.0], [6e4, 6e4]]], &Device::Cpu).unwrap();
    let queries = Tensor::new(&[[[1f32, 1.0], [-1.0, -1.0]]], &Device::Cpu).unwrap();
    let run = |dtype: DType, values_method: ValuesMethod| {
        let cast = |tensor: &Tensor| tensor.to_dtype(dtype).unwrap();
        let layer = LayerKv::new(cast(&keys), cast(&values), None).unwrap();
        let config = Compaction::default().with_beta(BetaMethod::Zero).with_values(values_method);
        compact_at(&[layer], std::slice::from_ref(&queries), &[vec![0, 1].into()], &config)
    };
    let error = run(DType::F16, ValuesMethod::LeastSquares).unwrap_err();
    assert!(matches!(error, Error::NonFinite { arg: "fitted values", layer: 0 }), "{error:?}");
    run(DType::F32, ValuesMethod::LeastSquares).unwrap();
    run(DType::F16, ValuesMethod::default()).unwrap();
}

#[test]
fn a_shared_mask_needs_one_length() {
    let mut case = random(SMALL, 1.0, 87);
    let short = random(crate::support::caches::Dims { seq_len: 20, ..SMALL }, 1.0, 88);
    case.layers[1] = short.layers[1].clone();
    let config = Layered::keep_ratio(0.5).with_selection(Selection::shared());
    let error = compact(&case.layers, &case.queries, &config).unwrap_err();
    let Error::Layer { index: 1, source } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::Shape { arg: "keys", .. }));
    assert!(position_scores(&case.layers, &case.queries, ScoreAgg::Mean, HeadAgg::Mean).is_err());
    compact(&case.layers, &case.queries, &config.with_selection(Selection::per_layer())).unwrap();
}

#[test]
fn settings_are_checked_before_anything_runs() {
    let config = Layered::keep_ratio(2.0);
    assert!(matches!(compact(&[], &[], &config), Err(Error::Config { field: "budget.keep_ratio", .. })));
}

#[test]
fn given_selections_are_checked() {
    let case = random(SMALL, 1.0, 89);
    let at = |kept: &[Vec<u32>]| {
        let kept: Vec<_> = kept.iter().cloned().map(Kept::shared).collect();
        compact_at(&case.layers, &case.queries, &kept, &Compaction::default()).unwrap_err()
    };
    assert!(matches!(at(&[]), Error::Shape { arg: "kept", .. }));
    assert!(matches!(at(&vec![vec![0, 1]; 3]), Error::Shape { arg: "kept", .. }));
    let source = |kept: &[Vec<u32>]| match at(kept) {
        Error::Layer { source, index } => (index, *source),
        other => panic!("{other:?}"),
    };
    assert!(matches!(source(&[vec![]]), (0, Error::Empty { arg: "kept" })));
    assert!(matches!(source(&[vec![3], vec![]]), (1, Error::Empty { arg: "kept" })));
    for bad in [vec![4, 3], vec![3, 3], vec![0, 48], vec![u32::MAX]] {
        assert!(matches!(source(&[bad]), (0, Error::Config { field: "kept", .. })));
    }
}

#[test]
fn errors_print_what_is_wrong_and_chain() {
    let mut case = random(SMALL, 1.0, 90);
    case.queries[1] = f32s(&[3, 6, 8]);
    let error = error(&case);
    assert_eq!(error.to_string(), "layer 1");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "queries: expected shape [2, n_queries, 8], got [3, 6, 8]");
}
