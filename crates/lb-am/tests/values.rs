//! Refitted values: the ridge in both forms, its importance weights, and what it does to queries it has not seen.

use candle_core::{Device, Tensor};
use lb_am::{BetaMethod, Compacted, Compaction, ValuesMethod, compact_at};

use super::{F32_TOLERANCE, assert_close, assert_keys_gathered, bits, pairs, run, shared, slots, wide};
use crate::support::caches::{Case, Dims, SMALL, random, scene};
use crate::support::layered::Layered;
use crate::support::oracle::{self, Rows, relative_error};

const RIDGE: ValuesMethod = ValuesMethod::Ridge { lambda: 1.0, importance: 1.0 };

/// Every head's values against the oracle's ridge under the stored biases.
fn assert_ridge(case: &Case, compacted: &Compacted, lambda: f64, exponent: f64, tolerance: f64) {
    let scores = wide(&compacted.report.scores);
    for (full, briefed, kept) in pairs(case, compacted) {
        let omega = oracle::importance(&scores, &kept, exponent);
        let x = briefed.attend().probabilities;
        let want = oracle::ridge(&x, &full.attend().output, Some(&full.values_of(&kept)), &omega, lambda);
        assert_close(&briefed.values.concat(), &want.concat(), tolerance);
    }
}

#[test]
fn both_forms_agree_with_the_oracle() {
    let case = random(SMALL, 1.5, 31);
    // 6 queries: 24 kept slots take the dual form, 6 and 5 the primal one.
    for kept in [24, 7, 6, 5] {
        for (lambda, importance) in [(1.0, 0.0), (1.0, 1.0), (0.1, 2.0), (30.0, 1.0), (0.01, 0.0)] {
            let config = Layered::kept_len(kept).with_values(ValuesMethod::Ridge { lambda, importance });
            let compacted = run(&case, &shared(config));
            for (layer, small) in case.layers.iter().zip(&compacted.layers) {
                assert_keys_gathered(layer, &small.keys, slots(small));
            }
            assert_ridge(&case, &compacted, lambda, importance, F32_TOLERANCE);
            let fit = compacted.report.values.unwrap();
            assert!((fit.lambda - lambda).abs() < 1e-12 && fit.jitter.abs() < f64::EPSILON);
        }
    }
}

/// A steep exponent on scores without pooling reaches both ends of the range of ω.
#[test]
fn importance_stays_within_its_range() {
    let case = random(SMALL, 3.0, 38);
    let values = ValuesMethod::Ridge { lambda: 1.0, importance: 8.0 };
    let compacted = run(&case, &shared(Layered::kept_len(30)).with_values(values).with_pooling(1));
    let omega = oracle::importance(&wide(&compacted.report.scores), slots(&compacted.layers[0]), 8.0);
    assert!(omega.contains(&0.01) && omega.contains(&100.0), "{omega:?}");
    assert_ridge(&case, &compacted, 1.0, 8.0, F32_TOLERANCE);
}

#[test]
fn more_queries_than_slots_agree_with_the_oracle() {
    let dims = Dims { queries: 90, ..SMALL };
    let case = random(dims, 1.5, 32);
    let compacted = run(&case, &shared(Layered::keep_ratio(0.5)).with_values(RIDGE));
    assert_ridge(&case, &compacted, 1.0, 1.0, F32_TOLERANCE);
}

#[test]
fn errors_are_reported_truly() {
    let case = scene(SMALL, 33).task;
    let compacted = run(&case, &shared(Layered::keep_ratio(0.25)).with_values(RIDGE));
    let (mut want, mut copied, mut fitted): (Rows, Rows, Rows) = (vec![], vec![], vec![]);
    for (full, briefed, kept) in pairs(&case, &compacted) {
        want.extend(full.attend().output);
        fitted.extend(briefed.attend().output);
        copied.extend(full.briefed(&kept, &briefed.bias, &full.values_of(&kept)).attend().output);
    }
    let fit = compacted.report.values.unwrap();
    assert!((fit.output_error_before - relative_error(&copied, &want)).abs() < 1e-5);
    assert!((fit.output_error_after - relative_error(&fitted, &want)).abs() < 1e-5);
    assert!(fit.output_error_after < fit.output_error_before);
}

#[test]
fn a_dropped_value_changes_the_fitted_ones() {
    let case = random(SMALL, 1.0, 34);
    let kept: Vec<u32> = (0..48).step_by(3).collect();
    let fit = |case: &Case, values| {
        let config = Compaction::default().with_values(values);
        compact_at(&case.layers, &case.queries, &[kept.clone().into()], &config).unwrap()
    };
    let mut changed = case.clone();
    let mut values = changed.layers[1].values.to_vec3::<f32>().unwrap();
    values[0][10][3] += 4.0;
    changed.layers[1].values = Tensor::new(values, &Device::Cpu).unwrap();
    let (before, after) = (fit(&case, RIDGE), fit(&changed, RIDGE));
    assert_ne!(bits(&before.layers[1].values), bits(&after.layers[1].values));
    assert_eq!(bits(&before.layers[1].bias), bits(&after.layers[1].bias));
    assert_eq!(bits(&before.layers[0].values), bits(&after.layers[0].values));
    // Copied values know nothing of what was dropped.
    let copy = |case| bits(&fit(case, ValuesMethod::Copy).layers[1].values);
    assert_eq!(copy(&case), copy(&changed));
}

#[test]
fn copied_values_are_the_original_bits() {
    let case = random(SMALL, 1.0, 35);
    let compacted = run(&case, &Layered::keep_ratio(0.3).with_values(ValuesMethod::Copy));
    assert_eq!(compacted.report.values, None);
    for (layer, small) in case.layers.iter().zip(&compacted.layers) {
        for (row, slot) in slots(small).iter().enumerate() {
            let original = layer.values.narrow(1, *slot as usize, 1).unwrap();
            assert_eq!(bits(&small.values.narrow(1, row, 1).unwrap()), bits(&original));
        }
    }
}

/// The stiffer ω, the less a value moves.
#[test]
fn important_values_move_least() {
    let case = scene(SMALL, 36).task;
    let moved = |importance: f64| {
        let values = ValuesMethod::Ridge { lambda: 1.0, importance };
        let compacted = run(&case, &shared(Layered::keep_ratio(0.5)).with_values(values).with_pooling(1));
        let scores = compacted.report.scores.clone();
        let (mut top, mut all) = (0.0, 0.0);
        for (full, briefed, kept) in pairs(&case, &compacted) {
            let best = (0..kept.len())
                .max_by(|a, b| scores[kept[*a] as usize].total_cmp(&scores[kept[*b] as usize]))
                .unwrap();
            let originals = full.values_of(&kept);
            let step = |j: usize| -> f64 {
                briefed.values[j].iter().zip(&originals[j]).map(|(a, b)| (a - b).powi(2)).sum()
            };
            top += step(best);
            all += (0..kept.len()).map(step).sum::<f64>();
        }
        top / all
    };
    let shares = [moved(0.0), moved(1.0), moved(2.0)];
    assert!(shares[1] < 0.5 * shares[0] && shares[2] < shares[1], "{shares:?}");
}

/// Output error on queries of the answer, which no fit has seen, for one way to obtain the values.
fn held_out(scene_seed: u64, keep: f64, values: ValuesMethod) -> (f64, f64) {
    let dims = Dims { layers: 2, heads: 2, seq_len: 160, head_dim: 16, queries: 8 };
    let scene = scene(dims, scene_seed);
    let compacted = run(&scene.task, &shared(Layered::keep_ratio(keep)).with_values(values));
    let answer = Case { layers: scene.task.layers.clone(), queries: scene.answer };
    let (mut got, mut want) = (vec![], vec![]);
    for (full, briefed, _) in pairs(&answer, &compacted) {
        want.extend(full.attend().output);
        got.extend(briefed.attend().output);
    }
    let fitted = compacted.report.values.map_or(f64::NAN, |fit| fit.output_error_after);
    (relative_error(&got, &want), fitted)
}

#[test]
fn held_out_queries_are_never_worse_off_than_with_copied_values() {
    for seed in 0..8 {
        for keep in [0.05, 0.1, 0.25] {
            let copied = held_out(seed, keep, ValuesMethod::Copy).0;
            for importance in [0.0, 1.0, 2.0] {
                let values = ValuesMethod::Ridge { lambda: 1.0, importance };
                let fitted = held_out(seed, keep, values).0;
                assert!(fitted <= copied, "seed {seed}, keep {keep}, p {importance}: {fitted} over {copied}");
            }
        }
    }
}

#[test]
fn least_squares_overfits_a_short_task() {
    for seed in 0..8 {
        let (ridge, ridge_fitted) = held_out(seed, 0.1, RIDGE);
        let (free, free_fitted) = held_out(seed, 0.1, ValuesMethod::LeastSquares);
        assert!(free_fitted < 0.5 * ridge_fitted, "seed {seed}: {free_fitted} against {ridge_fitted}");
        assert!(free > 1.2 * ridge, "seed {seed}: {free} against {ridge}");
    }
}

/// λ = 0 is least squares: to zero what the method of that name gives, to the originals those nearest to them.
#[test]
fn a_ridge_of_no_strength_is_least_squares() {
    let case = random(Dims { queries: 120, ..SMALL }, 2.0, 39);
    let fit = |values| run(&case, &shared(Compaction::kept_len(8)).with_values(values));
    let squares = fit(ValuesMethod::LeastSquares);
    let to_zero = fit(ValuesMethod::RidgeToZero { lambda: 0.0 });
    assert_eq!(bits(&to_zero.layers[1].values), bits(&squares.layers[1].values));
    let near = fit(ValuesMethod::Ridge { lambda: 0.0, importance: 0.0 });
    assert_ridge(&case, &near, 1e-6, 0.0, 1e-3);
    let error = |compacted: &Compacted| compacted.report.values.clone().unwrap().output_error_after;
    assert!((error(&near) - error(&squares)).abs() < 1e-4 * error(&squares));
}

/// With many more queries than slots the least squares are what they are meant to be.
#[test]
fn least_squares_agree_with_the_oracle() {
    let dims = Dims { queries: 120, ..SMALL };
    let case = random(dims, 2.0, 37);
    let config = Layered::kept_len(8).with_values(ValuesMethod::LeastSquares).with_beta(BetaMethod::Zero);
    let compacted = run(&case, &shared(config));
    for (full, briefed, kept) in pairs(&case, &compacted) {
        let x = briefed.attend().probabilities;
        let want = oracle::ridge(&x, &full.attend().output, None, &vec![1.0; kept.len()], 1e-6);
        assert_close(&briefed.values.concat(), &want.concat(), 1e-3);
    }
}
