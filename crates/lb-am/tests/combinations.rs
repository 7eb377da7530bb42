//! Every choice goes with every other, in every dtype.

use candle_core::DType;
use lb_am::{
    BetaMethod, Budget, Compactor, Fidelity, HeadBudgets, NnlsStart, Omp, RowWeighting, ScoreAgg, Selection,
    Spans, Units, ValuesMethod,
};

use crate::support::caches::{Dims, SMALL, scene};
use crate::support::layered::Layered;

fn selections() -> Vec<Selection> {
    let dropping = Omp { drop_below: Some(-2.0), ..Omp::steady(2, 1) };
    vec![
        Selection::shared(),
        Selection::per_layer(),
        Selection::per_head(),
        Selection::omp(Omp::default()),
        Selection::omp(dropping),
    ]
}

fn budgets() -> Vec<Budget> {
    vec![
        Budget::KeepRatio(0.3),
        Budget::KeptLen(7),
        Budget::Mad { tau: 1.5, min_kept: 3, max_ratio: 0.8 },
        Budget::ErrorBelow { epsilon: 0.4, min_kept: 4 },
    ]
}

fn fits() -> Vec<(BetaMethod, ValuesMethod)> {
    let nnls = |start, rows| BetaMethod::Nnls { iterations: Some(6), lower: -2.0, upper: 3.0, start, rows };
    vec![
        (BetaMethod::Zero, ValuesMethod::Copy),
        (BetaMethod::default(), ValuesMethod::default()),
        (nnls(NnlsStart::Ones, RowWeighting::Relative), ValuesMethod::RidgeLeaveOneOut),
        (nnls(NnlsStart::LeastSquares, RowWeighting::Mass), ValuesMethod::RidgeToZero { lambda: 0.1 }),
        (nnls(NnlsStart::LeastSquares, RowWeighting::Relative), ValuesMethod::LeastSquares),
    ]
}

#[test]
fn every_choice_goes_with_every_other_in_every_dtype() {
    let dims = Dims { seq_len: 40, queries: 12, ..SMALL };
    let scene = scene(dims, 501);
    let spans =
        [Spans::OFF, Spans::Max { width: 5 }, Spans::Mean { width: 5 }, Spans::Units(Units::Sentences)];
    let scores = [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms];
    let mut run = 0;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let case = scene.task.to_dtype(dtype);
        for (i, selection) in selections().into_iter().enumerate() {
            for (j, budget) in budgets().into_iter().enumerate() {
                for (k, (beta, values)) in fits().into_iter().enumerate() {
                    let config = Layered::with_budget(budget)
                        .with_selection(selection.clone())
                        .with_spans(spans[(i + j + k) % spans.len()])
                        .with_score(scores[(i + k) % scores.len()])
                        .with_beta(beta)
                        .with_values(values);
                    let compactor = Compactor::new(&case.layers, &case.queries, &config);
                    let compacted = compactor.units(&[0, 6, 13, 21, 30]).group_size(2).run().unwrap();
                    assert!(compacted.layers.iter().all(|layer| layer.values.dtype() == dtype));
                    let fidelity = Fidelity::measure(&case.layers, &compacted.layers, &scene.answer).unwrap();
                    let total = fidelity.total;
                    assert!(total.relative_l2.is_finite() && total.mass_error.is_finite(), "{config:?}");
                    assert!(fidelity.sizes.kept > 0 && fidelity.sizes.kept <= fidelity.sizes.stored);
                    let ratio = fidelity.sizes.kept as f64 / fidelity.sizes.full as f64;
                    assert!((compacted.report.keep_ratio - ratio).abs() < 1e-12);
                    run += 1;
                }
            }
        }
    }
    assert_eq!(run, 3 * 5 * 4 * 5);
}

#[test]
fn head_budgets_go_with_both_selections_per_head_and_every_fit() {
    let scene = scene(SMALL, 502);
    let budgets = HeadBudgets { shares: vec![vec![5.0, 1.0], vec![1.0, 3.0]] };
    for selection in [Selection::per_head(), Selection::omp(Omp::default())] {
        for (beta, values) in fits() {
            for dtype in [DType::F32, DType::BF16] {
                let case = scene.task.to_dtype(dtype);
                let config = Layered::keep_ratio(0.25)
                    .with_selection(selection.clone())
                    .with_head_budgets(budgets.clone())
                    .with_beta(beta)
                    .with_values(values);
                let compacted = super::run(&case, &config);
                assert!(compacted.layers[0].kept.is_ragged());
                assert!((compacted.report.keep_ratio - 0.25).abs() < 1e-12);
            }
        }
    }
}
