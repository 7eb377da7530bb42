//! Slots with a bias of −∞ take no mass, are not selected, and stay −∞.

use lb_am::{Compaction, Error, Kept, LayerKv, Protected, Selection, ValuesMethod, compact};

use super::{BARE, bits, pairs, run, slots};
use crate::support::caches::{Case, SMALL, random};
use crate::support::layered::Layered;

const PAD: f32 = f32::NEG_INFINITY;

/// `case` without its slots from `len`.
fn cut(case: &Case, len: usize) -> Case {
    let narrow = |tensor: &candle_core::Tensor| tensor.narrow(1, 0, len).unwrap().contiguous().unwrap();
    let layers = case.layers.iter();
    let layers = layers.map(|l| LayerKv::new(narrow(&l.keys), narrow(&l.values), None).unwrap());
    Case { layers: layers.collect(), queries: case.queries.clone() }
}

#[test]
fn padding_behind_the_cache_changes_nothing() {
    let full = random(SMALL, 1.0, 61);
    let padded = full.with_bias(|_, j| if j < 40 { 0.0 } else { PAD });
    let (short, long) = (cut(&full, 40), padded);
    let config = Layered::kept_len(12);
    let (a, b) = (run(&short, &config), run(&long, &config));
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!(slots(a), slots(b));
        let close = |a: &candle_core::Tensor, b: &candle_core::Tensor| {
            let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            flat(a).iter().zip(flat(b)).all(|(a, b)| (a - b).abs() < 1e-5)
        };
        assert!(close(&a.values, &b.values) && close(&a.bias, &b.bias));
    }
    assert!((a.report.mask.median - b.report.mask.median).abs() < 1e-6);
    assert!((a.report.mask.mad - b.report.mask.mad).abs() < 1e-6);
    assert!(b.report.raw_scores[40..].iter().all(|score| *score == 0.0));
}

#[test]
fn padding_is_kept_only_where_protected_and_stays_padding() {
    let case = random(SMALL, 1.0, 62).with_bias(|_, j| if j < 30 { 0.0 } else { PAD });
    for mask in [Selection::shared(), Selection::per_layer()] {
        for values in [ValuesMethod::Copy, ValuesMethod::default(), ValuesMethod::LeastSquares] {
            // More than the 30 live slots are asked for; pooling spreads scores into the padding.
            let config = Layered::kept_len(40).with_selection(mask.clone()).with_values(values);
            let kept = slots(&run(&case, &config).layers[0]).to_vec();
            assert_eq!(kept, (0..30).collect::<Vec<_>>());
            let protect = Protected { first: 2, last: 3 };
            let compacted = run(
                &case,
                &Layered::kept_len(10).with_selection(mask.clone()).with_values(values).with_protect(protect),
            );
            let layer = &compacted.layers[0];
            assert_eq!(slots(layer).len(), 10);
            assert_eq!(slots(layer)[7..], [45, 46, 47]);
            let bias = layer.bias.to_vec2::<f32>().unwrap();
            assert!(bias.iter().all(|head| head[7..].iter().all(|b| *b == PAD)));
            assert!(bias.iter().all(|head| head[..7].iter().all(|b| b.is_finite())));
            for (_, briefed, _) in pairs(&case, &compacted) {
                let p = briefed.attend().probabilities;
                assert!(p.iter().all(|row| row[7..].iter().all(|p| *p == 0.0)));
                assert!(briefed.values.iter().flatten().all(|value| value.is_finite()));
            }
        }
    }
}

/// A head of its own may hold less than the others, down to its protected slots.
#[test]
fn a_head_that_holds_only_protected_slots_is_fine() {
    let case = random(SMALL, 1.0, 63).with_bias(|h, j| if h == 1 && j >= 4 { PAD } else { 0.0 });
    let compacted = run(&case, &Layered::kept_len(10));
    for layer in &compacted.layers {
        assert_eq!(slots(layer)[..4], [0, 1, 2, 3]);
        let bias = layer.bias.to_vec2::<f32>().unwrap();
        assert!(bias[0].iter().all(|b| b.is_finite()));
        assert!(bias[1][..4].iter().all(|b| b.is_finite()) && bias[1][4..].iter().all(|b| *b == PAD));
    }
    for (full, briefed, kept) in pairs(&case, &compacted).into_iter().skip(1).step_by(2) {
        // Nothing of this head was dropped, so its output is as before.
        let error = crate::support::oracle::relative_error(&briefed.attend().output, &full.attend().output);
        assert!(error < 1e-5, "{error} keeping {kept:?}");
    }
}

#[test]
fn a_head_without_a_live_slot_is_refused() {
    let case = random(SMALL, 1.0, 64).with_bias(|h, _| if h == 1 { PAD } else { 0.0 });
    let error = compact(&case.layers, &case.queries, &Layered::kept_len(10)).unwrap_err();
    let Error::Layer { index: 0, source } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::Empty { .. }), "{source:?}");
    // Live slots before, none among those that are kept.
    let case = random(SMALL, 1.0, 64).with_bias(|h, j| if h == 1 && j < 40 { PAD } else { 0.0 });
    let kept = [Kept::shared((0..10).collect())];
    let error = lb_am::compact_at(&case.layers, &case.queries, &kept, &Compaction::default()).unwrap_err();
    assert!(matches!(error, Error::Layer { index: 0, .. }), "{error:?}");
}

#[test]
fn the_input_bias_is_untouched() {
    let case = random(SMALL, 1.0, 65).with_bias(|_, j| if j == 7 { PAD } else { j as f32 * 0.01 });
    let before = bits(case.layers[0].bias.as_ref().unwrap());
    run(&case, &Layered::kept_len(10).with_protect(BARE));
    assert_eq!(bits(case.layers[0].bias.as_ref().unwrap()), before);
}
