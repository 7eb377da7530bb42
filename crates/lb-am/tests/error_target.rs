//! An error target: the smallest budget whose estimate is below it, and how the estimate holds.

use lb_am::{Compaction, Compactor, Fidelity, Selection};

use crate::support::caches::{Dims, Scene, scene};
use crate::support::layered::Layered;

const DIMS: Dims = Dims { layers: 2, heads: 2, seq_len: 160, head_dim: 8, queries: 24 };

fn target(scene: &Scene, config: &Compaction) -> (lb_am::Report, f64) {
    let case = &scene.task;
    let compacted = Compactor::new(&case.layers, &case.queries, config).run().unwrap();
    let held_out = Fidelity::measure(&case.layers, &compacted.layers, &scene.answer).unwrap();
    (compacted.report, held_out.total.relative_l2)
}

fn below(epsilon: f64) -> Compaction {
    let config = Layered::error_below(epsilon);
    let lb_am::Budget::ErrorBelow { epsilon, .. } = config.budget else { unreachable!() };
    Compaction { budget: lb_am::Budget::ErrorBelow { epsilon, min_kept: 4 }, ..config }
}

#[test]
fn a_smaller_error_keeps_more_and_the_estimate_is_below_the_target() {
    for selection in [Selection::shared(), Selection::per_layer(), Selection::per_head()] {
        let scene = scene(DIMS, 301);
        let mut last = 0;
        for epsilon in [0.6, 0.4, 0.25, 0.1] {
            let (report, _) = target(&scene, &below(epsilon).with_selection(selection.clone()));
            let info = report.error_target.unwrap();
            assert!(info.estimated < epsilon && info.held_out && info.tried > 0, "{info:?}");
            assert!(report.kept_len >= last, "{} after {last}", report.kept_len);
            last = report.kept_len;
        }
        assert!(last < 160);
    }
}

/// Not a proof of calibration, which docs/fidelity.md measures on a trained worker, but a bound on nonsense.
#[test]
fn the_estimate_is_near_the_error_on_queries_of_the_same_task() {
    let (mut estimated, mut measured) = (0.0, 0.0);
    for seed in 310..318 {
        let (report, error) = target(&scene(DIMS, seed), &below(0.3));
        estimated += report.error_target.unwrap().estimated;
        measured += error;
    }
    // Half of the queries fit worse than all of them, so the estimate is on the safe side.
    assert!(measured < estimated && measured > 0.2 * estimated, "{measured} against {estimated}");
}

#[test]
fn an_easy_target_keeps_the_floor_and_an_impossible_one_everything() {
    let scene = scene(DIMS, 302);
    let (report, _) = target(&scene, &below(9.9));
    assert_eq!(report.kept_len, 4);
    let (report, error) = target(&scene, &below(1e-9));
    assert_eq!(report.kept_len, 160);
    assert!(error < 1e-6);
}

#[test]
fn a_single_token_is_measured_on_itself_and_the_report_says_so() {
    let scene = scene(Dims { queries: 2, ..DIMS }, 303);
    let case = &scene.task;
    let config = below(0.3);
    let one = Compactor::new(&case.layers, &case.queries, &config).group_size(2).run().unwrap();
    assert!(!one.report.error_target.unwrap().held_out);
    let two = Compactor::new(&case.layers, &case.queries, &config).run().unwrap();
    assert!(two.report.error_target.unwrap().held_out);
}

#[test]
fn a_group_that_does_not_divide_the_queries_is_refused() {
    let scene = scene(DIMS, 304);
    let case = &scene.task;
    let config = Compaction::default();
    for group in [0, 5, 7] {
        let error = Compactor::new(&case.layers, &case.queries, &config).group_size(group).run().unwrap_err();
        assert!(matches!(error, lb_am::Error::Config { field: "group_size", .. }), "{error:?}");
    }
}
