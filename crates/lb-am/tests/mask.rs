//! Budgets, protected positions, ties.

use candle_core::{DType, Device, Tensor};
use lb_am::{Budget, Compaction, CountLimit, LayerKv, Protected, Selection, layer_position_scores};
use lb_am::{HeadAgg, ScoreAgg};

use super::{BARE, run, shared, slots, wide};
use crate::support::caches::{Case, SMALL, random};
use crate::support::layered::Layered;
use crate::support::oracle;

fn mad(tau: f64, min_kept: usize, max_ratio: f64) -> Compaction {
    Layered::with_budget(Budget::Mad { tau, min_kept, max_ratio }).with_pooling(3)
}

/// All scores equal: every key is the same.
fn flat() -> Case {
    let ones = Tensor::ones((2, 30, 4), DType::F32, &Device::Cpu).unwrap();
    let layer = LayerKv::new(ones.clone(), ones.clone(), None).unwrap();
    Case { layers: vec![layer], queries: vec![ones.narrow(1, 0, 5).unwrap()] }
}

#[test]
fn the_mad_rule_is_median_plus_tau_mad() {
    let case = random(SMALL, 2.0, 11);
    let mut lengths = Vec::new();
    for tau in [0.0, 0.5, 1.0, 2.0, 4.0] {
        let report = run(&case, &shared(mad(tau, 1, 1.0)).with_protect(BARE)).report;
        let scores = wide(&report.scores);
        let (median, mad) = oracle::median_and_mad(&scores);
        assert!((report.mask.median - median).abs() < 1e-12 && (report.mask.mad - mad).abs() < 1e-12);
        let want = scores.iter().filter(|g| **g > median + tau * mad).count().max(1);
        assert_eq!(report.kept_len, want, "tau {tau}");
        assert!((report.mask.threshold.unwrap() - (median + tau * mad)).abs() < 1e-12);
        lengths.push(want);
    }
    assert!(lengths.windows(2).all(|pair| pair[0] >= pair[1]), "{lengths:?}");
    assert!(lengths[0] > lengths[4], "{lengths:?}");
}

#[test]
fn a_higher_tau_keeps_only_protected_positions_and_then_the_floor() {
    let case = random(SMALL, 2.0, 12);
    let protect = Protected { first: 3, last: 2 };
    let compacted = run(&case, &mad(1e6, 1, 1.0).with_protect(protect));
    assert_eq!(slots(&compacted.layers[0]), [0, 1, 2, 46, 47]);
    assert_eq!(compacted.report.mask.limit, CountLimit::Threshold);
    assert_eq!(compacted.report.mask.n_protected, 5);
    let compacted = run(&case, &mad(1e6, 12, 1.0).with_protect(protect));
    assert_eq!(compacted.report.kept_len, 12);
    assert_eq!(compacted.report.mask.limit, CountLimit::MinKept);
}

#[test]
fn the_ceiling_keeps_the_best() {
    let case = random(SMALL, 2.0, 13);
    let capped = run(&case, &mad(0.0, 1, 0.25));
    assert_eq!(capped.report.kept_len, 12);
    assert_eq!(capped.report.mask.limit, CountLimit::MaxRatio);
    let counted = run(&case, &Layered::kept_len(12).with_pooling(3));
    assert_eq!(slots(&capped.layers[0]), slots(&counted.layers[0]));
    // A floor above the ceiling wins: 20 positions of 48 are more than a quarter.
    assert_eq!(run(&case, &mad(1e6, 20, 0.25)).report.kept_len, 20);
}

#[test]
fn ratio_and_length_count_protected_positions() {
    let case = random(SMALL, 2.0, 14);
    let protect = Protected { first: 4, last: 3 };
    for (config, kept, limit) in [
        (Layered::keep_ratio(0.25), 12, CountLimit::Count),
        (Layered::keep_ratio(0.26), 13, CountLimit::Count),
        (Layered::keep_ratio(0.01), 7, CountLimit::Protected),
        (Layered::kept_len(1), 7, CountLimit::Protected),
        (Layered::kept_len(9), 9, CountLimit::Count),
        (Layered::kept_len(48), 48, CountLimit::Count),
        (Layered::kept_len(1000), 48, CountLimit::SeqLen),
        (Layered::keep_ratio(1.0), 48, CountLimit::Count),
    ] {
        let report = run(&case, &config.clone().with_protect(protect)).report;
        assert_eq!((report.kept_len, report.mask.limit), (kept, limit), "{:?}", config.budget);
        assert!((report.keep_ratio - kept as f64 / 48.0).abs() < 1e-12);
    }
    // 0.1 * 30 is more than 3 in binary.
    assert_eq!(run(&flat(), &Layered::keep_ratio(0.1).with_protect(BARE)).report.kept_len, 3);
}

#[test]
fn what_is_kept_scores_no_lower_than_what_is_dropped() {
    let case = random(SMALL, 2.0, 15);
    let compacted = run(&case, &shared(Layered::kept_len(10)).with_protect(BARE).with_pooling(1));
    let (kept, scores) = (slots(&compacted.layers[0]), &compacted.report.scores);
    let lowest = kept.iter().map(|slot| scores[*slot as usize]).fold(f32::INFINITY, f32::min);
    assert_eq!(compacted.report.mask.threshold, Some(f64::from(lowest)));
    for (j, score) in scores.iter().enumerate() {
        assert!(kept.contains(&(j as u32)) || *score <= lowest, "position {j}");
    }
}

#[test]
fn ties_go_to_the_earlier_position() {
    let case = flat();
    let compacted = run(&case, &Layered::kept_len(5).with_protect(BARE));
    assert_eq!(slots(&compacted.layers[0]), [0, 1, 2, 3, 4]);
    let last = Protected { first: 0, last: 2 };
    let compacted = run(&case, &Layered::kept_len(5).with_protect(last));
    assert_eq!(slots(&compacted.layers[0]), [0, 1, 2, 28, 29]);
    // MAD = 0 and nothing exceeds the median, so the floor decides.
    let compacted = run(&case, &mad(0.0, 6, 1.0).with_protect(BARE));
    assert_eq!(slots(&compacted.layers[0]), [0, 1, 2, 3, 4, 5]);
    assert!(compacted.report.mask.mad.abs() < f64::EPSILON);
}

#[test]
fn a_mask_per_layer_follows_each_layer() {
    let case = random(SMALL, 3.0, 16);
    let config =
        Layered::kept_len(8).with_selection(Selection::per_layer()).with_protect(BARE).with_pooling(1);
    let compacted = run(&case, &config);
    let scores = layer_position_scores(&case.layers, &case.queries, ScoreAgg::Mean, HeadAgg::Mean).unwrap();
    for (layer, scores) in compacted.layers.iter().zip(&scores) {
        let mut order: Vec<u32> = (0..48).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
        let mut want = order[..8].to_vec();
        want.sort_unstable();
        assert_eq!(slots(layer), want);
    }
    assert_ne!(slots(&compacted.layers[0]), slots(&compacted.layers[1]));
    assert_eq!(compacted.report.masks.len(), 2);
    let one = run(&case, &shared(config));
    assert_eq!(slots(&one.layers[0]), slots(&one.layers[1]));
    assert!(one.report.masks.is_empty());
}

#[test]
fn layers_of_different_length_need_a_mask_per_layer() {
    let mut case = random(SMALL, 2.0, 17);
    let short = &case.layers[1];
    let cut = |tensor: &Tensor| tensor.narrow(1, 0, 20).unwrap();
    case.layers[1] = LayerKv::new(cut(&short.keys), cut(&short.values), None).unwrap();
    let config = shared(Layered::keep_ratio(0.5));
    assert!(lb_am::compact(&case.layers, &case.queries, &config).is_err());
    let compacted = run(&case, &config.with_selection(Selection::per_layer()));
    assert_eq!(compacted.layers.iter().map(|layer| slots(layer).len()).collect::<Vec<_>>(), [24, 10]);
    let report = compacted.report;
    assert_eq!((report.seq_len, report.kept_len, report.scores.len()), (48, 24, 48));
    assert!((report.keep_ratio - 0.5).abs() < 1e-12);
}
