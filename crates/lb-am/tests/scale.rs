//! The scale of the logits is what the layer says, in every step.

use lb_am::{
    BetaMethod, Compacted, Error, Fidelity, HeadAgg, NnlsStart, RowWeighting, ScoreAgg, Selection,
    ValuesMethod, compact, position_scores,
};

use super::{F32_TOLERANCE, all_heads, assert_close, pairs, run, wide};
use crate::support::caches::{Case, Dims, SMALL, random};
use crate::support::layered::Layered;
use crate::support::oracle::{self, relative_error};

/// Far from 1/√8 on both sides, and no power of two.
const SCALES: [f32; 2] = [0.11, 0.9];

fn case(scale: f32, queries: usize, seed: u64) -> Case {
    let mut case = random(Dims { queries, ..SMALL }, 1.5, seed)
        .with_bias(|h, j| (h as f32 - 0.5) * (j % 5) as f32 * 0.2);
    for layer in &mut case.layers {
        layer.scale = scale;
    }
    case
}

#[test]
fn scores_agree_with_the_oracle() {
    for scale in SCALES {
        // Fewer and more queries than kernels take at a time.
        for queries in [6, 70] {
            let case = case(scale, queries, 70);
            for score in [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms] {
                let want: Vec<_> = all_heads(&case).iter().map(|head| head.scores(score)).collect();
                let got = position_scores(&case.layers, &case.queries, score, HeadAgg::Mean).unwrap();
                assert_close(&wide(&got), &oracle::across(&want, HeadAgg::Mean), F32_TOLERANCE);
            }
        }
    }
}

/// Bias fits of both ways of computing them: head by head, and by tensor operations where it starts at least squares.
#[test]
fn biases_reach_the_bounded_minimum_at_that_scale() {
    for scale in SCALES {
        let case = case(scale, 6, 71);
        for start in [NnlsStart::Shared, NnlsStart::LeastSquares] {
            let beta = BetaMethod::Nnls {
                iterations: Some(2000),
                lower: -3.0,
                upper: 3.0,
                start,
                rows: RowWeighting::Mass,
            };
            let config = Layered::keep_ratio(0.25).with_beta(beta).with_values(ValuesMethod::Copy);
            for (full, briefed, kept) in pairs(&case, &run(&case, &config)) {
                let w: Vec<f64> = kept
                    .iter()
                    .zip(&briefed.bias)
                    .map(|(slot, bias)| (bias - full.bias[*slot as usize]).exp())
                    .collect();
                let begin = full.mass_objective(&kept, &vec![1.0; kept.len()]).0;
                let got = full.mass_objective(&kept, &w).0;
                let best = full.mass_objective(&kept, &full.best_weights(&kept, 3.0, 5000)).0;
                assert!(got - best <= 1e-3 * (begin - best), "{scale}, {start:?}: {got} against {best}");
            }
        }
    }
}

/// The dual form head by head, and the primal one by tensor operations, where a vanishing λ needs it.
#[test]
fn values_agree_with_the_oracle() {
    for scale in SCALES {
        for (queries, kept, lambda, method) in [
            (6, 24, 1.0, ValuesMethod::Ridge { lambda: 1.0, importance: 1.0 }),
            (90, 12, 1e-4, ValuesMethod::Ridge { lambda: 1e-4, importance: 1.0 }),
        ] {
            let case = case(scale, queries, 72);
            let config = Layered::kept_len(kept).with_selection(Selection::shared()).with_values(method);
            let compacted = run(&case, &config);
            let scores = wide(&compacted.report.scores);
            for (full, briefed, kept) in pairs(&case, &compacted) {
                let omega = oracle::importance(&scores, &kept, 1.0);
                let (x, y) = (briefed.attend().probabilities, full.attend().output);
                let want = oracle::ridge(&x, &y, Some(&full.values_of(&kept)), &omega, lambda);
                assert!(relative_error(&briefed.values, &want) < 1e-3, "{scale}, {queries} queries");
            }
        }
    }
}

/// What comes out carries the scale on: measured, and compacted once more.
#[test]
fn a_compacted_layer_has_the_scale_of_its_layer() {
    for scale in SCALES {
        let case = case(scale, 6, 73);
        let compacted = run(&case, &Layered::keep_ratio(0.5));
        let measured = Fidelity::measure(&case.layers, &compacted.layers, &case.queries).unwrap();
        let both = pairs(&case, &compacted);
        let want: Vec<_> = both.iter().flat_map(|(full, _, _)| full.attend().output).collect();
        let got: Vec<_> = both.iter().flat_map(|(_, briefed, _)| briefed.attend().output).collect();
        assert!((measured.total.relative_l2 - relative_error(&got, &want)).abs() < 1e-5);
        let again = |compacted: &Compacted| -> Vec<f32> {
            compacted.layers.iter().map(|layer| layer.to_layer().unwrap().scale).collect()
        };
        assert_eq!(again(&compacted), vec![scale; 2]);
        // Nothing dropped, nothing fitted: that way too.
        assert_eq!(again(&run(&case, &Layered::keep_ratio(1.0))), vec![scale; 2]);
    }
}

#[test]
fn a_scale_must_be_a_number_above_zero() {
    for bad in [0.0, -0.5, f32::NAN, f32::INFINITY] {
        let case = case(bad, 6, 74);
        let error = compact(&case.layers, &case.queries, &Layered::keep_ratio(0.5)).unwrap_err();
        let Error::Layer { index: 0, source } = error else { panic!("{error}") };
        assert!(matches!(*source, Error::Config { field: "scale", .. }), "{source}");
    }
}
