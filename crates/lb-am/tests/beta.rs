//! Key biases: the mass of the full cache is the target, and β reaches the attention.

use candle_core::Tensor;
use lb_am::{BetaMethod, Compacted, Compaction, Kept, NnlsStart, RowWeighting, ValuesMethod, compact_at};

use super::{BARE, bits, pairs, run};
use crate::support::caches::{Case, Dims, SMALL, random, scene};
use crate::support::layered::Layered;
use crate::support::oracle;

fn config() -> Compaction {
    Layered::keep_ratio(0.25).with_values(ValuesMethod::Copy)
}

fn nnls(iterations: usize) -> BetaMethod {
    BetaMethod::steps(iterations)
}

/// Mass errors of the stored biases, recomputed in f64: without them, and with them.
fn mass_errors(case: &Case, compacted: &Compacted) -> (f64, f64) {
    let (mut before, mut after, mut total) = (0.0, 0.0, 0.0);
    for (full, briefed, kept) in pairs(case, compacted) {
        let w: Vec<f64> =
            kept.iter().zip(&briefed.bias).map(|(slot, b)| (b - full.bias[*slot as usize]).exp()).collect();
        before += full.mass_objective(&kept, &vec![1.0; kept.len()]).0;
        let (error, mass) = full.mass_objective(&kept, &w);
        after += error;
        total += mass;
    }
    ((before / total).sqrt(), (after / total).sqrt())
}

#[test]
fn the_mass_error_falls_and_is_reported_truly() {
    for (seed, case) in [(21, random(SMALL, 1.0, 21)), (22, scene(SMALL, 22).task)] {
        let compacted = run(&case, &config());
        let fit = compacted.report.beta.clone().unwrap();
        let (before, after) = mass_errors(&case, &compacted);
        assert!((fit.mass_error_before - before).abs() < 1e-5, "seed {seed}: {fit:?} against {before}");
        assert!((fit.mass_error_after - after).abs() < 1e-5, "seed {seed}: {fit:?} against {after}");
        assert!(after < 0.5 * before, "seed {seed}: {before} to {after}");
        assert_eq!(fit.iterations, 4);
    }
}

#[test]
fn converges_to_the_bounded_minimum() {
    let case = random(SMALL, 1.5, 23);
    let compacted = run(&case, &config().with_beta(nnls(2_000)));
    for (full, briefed, kept) in pairs(&case, &compacted) {
        let w: Vec<f64> = briefed.bias.iter().map(|b| b.exp()).collect();
        let start = full.mass_objective(&kept, &vec![1.0; kept.len()]).0;
        let got = full.mass_objective(&kept, &w).0;
        let best = full.mass_objective(&kept, &full.best_weights(&kept, 3.0, 5000)).0;
        assert!(got - best <= 1e-3 * (start - best), "{got} against {best}, from {start}");
    }
}

#[test]
fn biases_stay_within_their_bound() {
    let case = random(SMALL, 2.0, 24);
    let (start, rows) = (NnlsStart::Shared, RowWeighting::Mass);
    let tight = BetaMethod::Nnls { iterations: Some(64), lower: -0.1, upper: 0.1, start, rows };
    let compacted = run(&case, &config().with_beta(tight));
    let biases: Vec<f32> =
        compacted.layers.iter().flat_map(|l| l.bias.flatten_all().unwrap().to_vec1().unwrap()).collect();
    assert!(biases.iter().all(|b| b.abs() <= 0.1 + 1e-6));
    let at_bound = biases.iter().filter(|b| b.abs() >= 0.1 - 1e-6).count();
    assert!(at_bound > 0);
    assert_eq!(compacted.report.beta.unwrap().clamped, at_bound);
}

#[test]
fn zeroing_beta_changes_the_output_for_the_worse() {
    let case = scene(SMALL, 25).task;
    let compacted = run(&case, &config());
    let (mut with, mut without) = (0.0, 0.0);
    for (full, briefed, _) in pairs(&case, &compacted) {
        let mut zeroed = briefed.clone();
        zeroed.bias = vec![0.0; briefed.bias.len()];
        assert!(oracle::relative_error(&zeroed.attend().output, &briefed.attend().output) > 1e-3);
        // The mass decides how attention to the briefing weighs against attention to what follows it.
        let missing = |head: &oracle::Head| -> f64 {
            let (got, want) = (head.attend(), full.attend());
            let log_mass = |a: &oracle::Attention, i: usize| a.max[i] + a.mass[i].ln();
            (0..want.mass.len()).map(|i| (log_mass(&got, i) - log_mass(&want, i)).powi(2)).sum()
        };
        with += missing(&briefed);
        without += missing(&zeroed);
    }
    assert!(with < 0.5 * without, "{with} against {without}");
}

#[test]
fn a_dropped_key_changes_beta() {
    let case = random(SMALL, 1.0, 26);
    let kept = Kept::shared((0..48).step_by(4).collect());
    let fit = |case: &Case| {
        compact_at(&case.layers, &case.queries, std::slice::from_ref(&kept), &config().with_protect(BARE))
            .unwrap()
    };
    let before = fit(&case);
    let mut changed = case.clone();
    let mut keys = changed.layers[0].keys.to_vec3::<f32>().unwrap();
    keys[1][5][0] += 3.0;
    changed.layers[0].keys = Tensor::new(keys, &candle_core::Device::Cpu).unwrap();
    let after = fit(&changed);
    let bias = |c: &Compacted, layer: usize, head: usize| bits(&c.layers[layer].bias.get(head).unwrap());
    assert_ne!(bias(&before, 0, 1), bias(&after, 0, 1));
    assert_eq!(bias(&before, 0, 0), bias(&after, 0, 0));
    assert_eq!(bias(&before, 1, 1), bias(&after, 1, 1));
    assert_eq!(bits(&before.layers[0].keys), bits(&after.layers[0].keys));
}

/// With fewer queries than kept slots the fit must not buy the fitted queries at the price of others.
#[test]
fn the_mass_error_falls_on_held_out_queries() {
    let dims = Dims { layers: 2, heads: 2, seq_len: 160, head_dim: 16, queries: 8 };
    for seed in 0..6 {
        let scene = scene(dims, seed);
        let compacted = run(&scene.task, &config());
        let answer = Case { layers: scene.task.layers.clone(), queries: scene.answer };
        let (before, after) = mass_errors(&answer, &compacted);
        assert!(after < 0.7 * before, "seed {seed}: {before} to {after}");
    }
}

#[test]
fn zero_beta_leaves_the_bias_alone() {
    let case = random(SMALL, 1.0, 27);
    let compacted = run(&case, &config().with_beta(BetaMethod::Zero));
    assert_eq!(compacted.report.beta, None);
    assert!(compacted.layers.iter().all(|layer| bits(&layer.bias).iter().all(|b| *b == 0)));
    // The report's error before the fit is that of β = 0.
    let fitted = run(&case, &config()).report.beta.unwrap();
    assert!((fitted.mass_error_before - mass_errors(&case, &compacted).1).abs() < 1e-5);
}
