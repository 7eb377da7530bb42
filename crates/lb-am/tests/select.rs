//! Who keeps what: each head on its own, matching pursuit, units of text, budgets that differ from head to head.

use lb_am::{
    Compaction, Compactor, Error, HeadBudgets, Kept, LayerKv, Omp, Protected, ScoreAgg, Selection, Spans,
    Units, ValuesMethod, budgets, compact, compact_at,
};

use super::{BARE, all_heads, assert_keys_gathered, bits, pairs, run};
use crate::support::caches::{Case, Dims, SMALL, random, scene};
use crate::support::compare::{assert_close, flat};
use crate::support::layered::Layered;
use crate::support::oracle::Head;

fn per_head(config: Compaction) -> Compaction {
    config.with_selection(Selection::per_head())
}

/// The best `count` slots by `scores`, ties to the earlier one.
fn best(scores: &[f64], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|a, b| scores[*b as usize].partial_cmp(&scores[*a as usize]).unwrap().then(a.cmp(b)));
    let mut best = order[..count].to_vec();
    best.sort_unstable();
    best
}

#[test]
fn each_head_keeps_what_its_own_queries_look_at() {
    let case = random(SMALL, 3.0, 201);
    for score in [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms] {
        let config = per_head(Layered::kept_len(8)).with_protect(BARE).with_pooling(1).with_score(score);
        let compacted = run(&case, &config);
        let mut lists: Vec<Vec<u32>> = Vec::new();
        for layer in &compacted.layers {
            lists.extend(layer.kept.lists().to_vec());
            assert!(!layer.kept.is_ragged());
        }
        for (head, list) in all_heads(&case).iter().zip(&lists) {
            assert_eq!(*list, best(&head.scores(score), 8));
        }
        assert_ne!(lists[0], lists[1]);
        assert_eq!(compacted.report.masks.len(), 4);
        assert!((compacted.report.keep_ratio - 8.0 / 48.0).abs() < 1e-12);
    }
}

/// Heads that happen to agree are compacted as one mask for all would do it.
#[test]
fn one_head_alone_is_a_shared_mask() {
    let case = random(Dims { layers: 1, heads: 1, ..SMALL }, 2.0, 202);
    for values in [ValuesMethod::Copy, ValuesMethod::default(), ValuesMethod::RidgeLeaveOneOut] {
        let config = Layered::kept_len(9).with_values(values);
        let (shared, own) = (run(&case, &config), run(&case, &per_head(config.clone())));
        assert_eq!(shared.layers[0].kept.head(0), own.layers[0].kept.head(0));
        assert_eq!(bits(&shared.layers[0].values), bits(&own.layers[0].values));
        assert_eq!(bits(&shared.layers[0].bias), bits(&own.layers[0].bias));
    }
}

#[test]
fn a_threshold_of_its_own_leaves_each_head_a_count_of_its_own() {
    let case = scene(SMALL, 203).task;
    let config = per_head(Layered::with_budget(lb_am::Budget::Mad { tau: 2.0, min_kept: 2, max_ratio: 1.0 }));
    let compacted = run(&case, &config.with_protect(BARE).with_pooling(1));
    assert!(compacted.layers.iter().any(|layer| layer.kept.is_ragged()));
    assert_ragged_is_sound(&case, &compacted);
}

fn assert_ragged_is_sound(case: &Case, compacted: &lb_am::Compacted) {
    let mut kept = 0;
    for (layer, small) in case.layers.iter().zip(&compacted.layers) {
        let (values, bias) = (small.values.to_vec3::<f32>().unwrap(), small.bias.to_vec2::<f32>().unwrap());
        for head in 0..layer.kv_heads() {
            let list = small.kept.head(head);
            kept += list.len();
            let one = |t: &candle_core::Tensor| t.narrow(0, head, 1).unwrap();
            let of_head = LayerKv::new(one(&layer.keys), one(&layer.values), None).unwrap();
            assert_keys_gathered(&of_head, &one(&small.keys), list);
            for (slot, b) in bias[head].iter().enumerate() {
                assert_eq!(slot >= list.len(), *b == f32::NEG_INFINITY);
            }
            assert!(values[head].iter().skip(list.len()).flatten().all(|v| *v == 0.0));
            assert!(values[head].iter().flatten().all(|v| v.is_finite()));
        }
    }
    let all = case.layers.len() * case.layers[0].kv_heads() * case.layers[0].seq_len();
    assert!((compacted.report.keep_ratio - kept as f64 / all as f64).abs() < 1e-12);
    // A head of few slots fits as well as one that is compacted alone.
    for (full, briefed, _) in pairs(case, compacted) {
        let got = full.attend();
        let error = crate::support::oracle::relative_error(&briefed.attend().output, &got.output);
        assert!(error < 1.0, "{error}");
    }
}

/// What a ragged head gets is what it would get on its own, whatever the others keep.
#[test]
fn padding_changes_no_fit() {
    let case = random(SMALL, 2.0, 204);
    let lists = vec![vec![0u32, 5, 9, 33], (10..40).collect()];
    for values in
        [ValuesMethod::default(), ValuesMethod::RidgeLeaveOneOut, ValuesMethod::RidgeToZero { lambda: 0.1 }]
    {
        let config = per_head(Layered::keep_ratio(0.5)).with_values(values);
        let kept = vec![Kept::per_head(lists.clone()); 2];
        let both = compact_at(&case.layers, &case.queries, &kept, &config).unwrap();
        assert_ragged_is_sound_in_shape(&both, &lists);
        if values == ValuesMethod::RidgeLeaveOneOut {
            // λ is chosen for the layer as a whole.
            continue;
        }
        for (head, list) in lists.iter().enumerate() {
            let one = |t: &candle_core::Tensor| t.narrow(0, head, 1).unwrap().contiguous().unwrap();
            let layer = LayerKv::new(one(&case.layers[0].keys), one(&case.layers[0].values), None).unwrap();
            let alone =
                compact_at(&[layer], &[one(&case.queries[0])], &[Kept::shared(list.clone())], &config)
                    .unwrap();
            let part = |t: &candle_core::Tensor| {
                flat(&t.narrow(0, head, 1).unwrap().narrow(1, 0, list.len()).unwrap())
            };
            let (small, alone) = (&both.layers[0], &alone.layers[0]);
            assert_close(&part(&small.values), &flat(&alone.values), 2e-5);
            assert_close(&part(&small.bias), &flat(&alone.bias), 2e-5);
        }
    }
}

fn assert_ragged_is_sound_in_shape(compacted: &lb_am::Compacted, lists: &[Vec<u32>]) {
    let longest = lists.iter().map(Vec::len).max().unwrap();
    for layer in &compacted.layers {
        assert_eq!(layer.keys.dims(), [2, longest, 8]);
        assert_eq!(layer.kept.lists(), lists);
    }
}

/// Greedy by hand: the key that correlates most with what is missing, then weights that are refitted.
#[test]
fn a_pursuit_explains_more_mass_than_the_best_scores() {
    let (mut by_score, mut by_pursuit) = (0.0, 0.0);
    for seed in 205..215 {
        let case = scene(SMALL, seed).task;
        let config = Layered::kept_len(6).with_protect(BARE).with_pooling(1).with_values(ValuesMethod::Copy);
        let error = |selection| {
            let config = config.clone().with_selection(selection);
            run(&case, &config).report.beta.unwrap().mass_error_after
        };
        by_score += error(Selection::per_head());
        by_pursuit += error(Selection::omp(Omp::steady(1, 1)));
    }
    assert!(by_pursuit < 0.8 * by_score, "{by_pursuit} against {by_score}");
}

/// ‖Φ_kept w − Z‖² at its optimum over w in [0, e⁷] and Z − Φ_kept w there, by many sweeps of coordinate descent.
fn optimum(columns: &[Vec<f64>], mass: &[f64], kept: &[usize]) -> (f64, Vec<f64>) {
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut left = mass.to_vec();
    let mut w = vec![0.0; kept.len()];
    for _ in 0..3_000 {
        for (w, slot) in w.iter_mut().zip(kept) {
            let column = &columns[*slot];
            let next = (*w + dot(column, &left) / dot(column, column)).clamp(0.0, 7f64.exp());
            left.iter_mut().zip(column).for_each(|(left, a)| *left -= a * (next - *w));
            *w = next;
        }
    }
    (dot(&left, &left), left)
}

/// Φ, key by key, and Z of a head, each row divided by a power of its mass.
fn weighed(head: &Head, slots: usize, power: f64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let full = head.attend();
    let by: Vec<f64> = full.mass.iter().map(|mass| mass.powf(-power)).collect();
    let row = |q: usize, j: usize| (head.logit(q, j) - full.max[q]).exp() * by[q];
    let column = |j: usize| -> Vec<f64> { (0..by.len()).map(|q| row(q, j)).collect() };
    ((0..slots).map(column).collect(), full.mass.iter().zip(&by).map(|(mass, by)| mass * by).collect())
}

fn pursuit_by(row_power: f64) -> Selection {
    Selection::omp(Omp { row_power, ..Omp::steady(1, 1) })
}

/// Of many rows: what a greedy search with exact weights leaves over, in f64.
#[test]
fn a_pursuit_of_many_rows_is_as_good_as_one_in_f64() {
    const KEPT: usize = 12;
    for (seed, power) in [(219, 0.0), (220, 0.0), (221, 0.0), (219, 0.5), (220, 0.5), (221, 1.0)] {
        let case = scene(Dims { layers: 1, seq_len: 72, queries: 120, ..SMALL }, seed).task;
        let config = Compaction::kept_len(KEPT).with_protect(BARE).with_pooling(1);
        let compacted = run(&case, &config.with_selection(pursuit_by(power)));
        for (h, head) in all_heads(&case).iter().enumerate() {
            let (columns, mass) = weighed(head, 72, power);
            let (mut kept, mut left) = (Vec::new(), mass.clone());
            for _ in 0..KEPT {
                let gain = |j: usize| -> f64 { columns[j].iter().zip(&left).map(|(a, b)| a * b).sum() };
                let open = (0..72).filter(|j| !kept.contains(j));
                kept.push(open.max_by(|a, b| gain(*a).total_cmp(&gain(*b))).unwrap());
                left = optimum(&columns, &mass, &kept).1;
            }
            let ours: Vec<usize> =
                compacted.layers[0].kept.head(h).iter().map(|slot| *slot as usize).collect();
            let (got, best) = (optimum(&columns, &mass, &ours).0, optimum(&columns, &mass, &kept).0);
            assert!(got <= 1.01 * best, "{got} against {best} at {power}: {ours:?}, {kept:?}");
        }
    }
}

#[test]
fn the_first_key_of_a_pursuit_correlates_most_with_the_whole_mass() {
    let mut first: [Vec<Vec<u32>>; 3] = Default::default();
    for seed in 216..224 {
        let case = random(SMALL, 2.0, seed);
        for (power, first) in [0.0, 0.5, 1.0].into_iter().zip(&mut first) {
            let config = Layered::kept_len(1).with_protect(BARE).with_pooling(1);
            let compacted = run(&case, &config.with_selection(pursuit_by(power)));
            for (i, head) in all_heads(&case).iter().enumerate() {
                let (columns, mass) = weighed(head, 48, power);
                let dot = |column: &Vec<f64>| -> f64 { column.iter().zip(&mass).map(|(a, b)| a * b).sum() };
                let correlations: Vec<f64> = columns.iter().map(dot).collect();
                let kept = compacted.layers[i / 2].kept.head(i % 2);
                assert_eq!(kept, best(&correlations, 1));
                first.push(kept.to_vec());
            }
        }
    }
    assert_ne!(first[0], first[2], "the power decides nothing here");
}

#[test]
fn a_pursuit_keeps_its_count_its_protected_slots_and_its_spans() {
    let case = scene(Dims { seq_len: 60, ..SMALL }, 217).task;
    let protect = Protected { first: 3, last: 2 };
    for omp in [Omp::default(), Omp::steady(4, 2), Omp { drop_below: Some(-2.5), ..Omp::default() }] {
        for width in [1, 5] {
            let config = Layered::kept_len(17).with_protect(protect).with_pooling(width);
            let compacted = run(&case, &config.with_selection(Selection::omp(omp.clone())));
            for layer in &compacted.layers {
                for list in layer.kept.lists() {
                    assert_eq!(list.len(), 17);
                    assert!([0, 1, 2, 58, 59].iter().all(|slot| list.contains(slot)));
                    assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
                }
            }
        }
    }
}

#[test]
fn a_pursuit_never_takes_padding() {
    let case =
        random(SMALL, 1.0, 218).with_bias(|h, j| if h == 1 && j >= 20 { f32::NEG_INFINITY } else { 0.0 });
    let config = Layered::kept_len(30).with_selection(Selection::omp(Omp::default()));
    let compacted = run(&case, &config);
    for layer in &compacted.layers {
        assert_eq!((layer.kept.head(0).len(), layer.kept.head(1).len()), (30, 20));
        assert!(layer.kept.head(1).iter().all(|slot| *slot < 20));
    }
}

#[test]
fn units_are_kept_whole() {
    let case = random(SMALL, 3.0, 219);
    let starts: Vec<u32> = vec![0, 7, 9, 20, 31, 40];
    let units = [0..7, 7..9, 9..20, 20..31, 31..40, 40..48];
    for selection in [Selection::shared(), Selection::per_layer(), Selection::per_head()] {
        for kept_len in [12, 20, 33] {
            let config = Layered::kept_len(kept_len)
                .with_protect(BARE)
                .with_spans(Spans::Units(Units::Sentences))
                .with_selection(selection.clone());
            let compacted =
                Compactor::new(&case.layers, &case.queries, &config).units(&starts).run().unwrap();
            for list in compacted.layers.iter().flat_map(|layer| layer.kept.lists()) {
                assert!(!list.is_empty() && list.len() <= kept_len);
                for unit in &units {
                    let inside = list.iter().filter(|slot| unit.contains(&(**slot as usize))).count();
                    assert!(inside == 0 || inside == unit.len(), "{inside} of {unit:?}");
                }
            }
        }
    }
}

/// Where not even the best unit fits, its head is all there is to keep.
#[test]
fn a_unit_larger_than_the_budget_is_cut() {
    let case = random(SMALL, 3.0, 220);
    let config = Layered::kept_len(5).with_protect(BARE).with_spans(Spans::Units(Units::Segments));
    let compacted = Compactor::new(&case.layers, &case.queries, &config).units(&[24]).run().unwrap();
    let kept = compacted.layers[0].kept.head(0);
    assert!(kept == [0, 1, 2, 3, 4] || kept == [24, 25, 26, 27, 28], "{kept:?}");
}

#[test]
fn units_must_be_told_and_make_sense() {
    let case = random(SMALL, 1.0, 221);
    let config = Layered::kept_len(5).with_spans(Spans::Units(Units::Segments));
    let field = |error: Error| match error {
        Error::Config { field, .. } => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(compact(&case.layers, &case.queries, &config).unwrap_err()), "units");
    for starts in [&[4u32, 4][..], &[9, 3], &[48]] {
        let result = Compactor::new(&case.layers, &case.queries, &config).units(starts).run();
        assert_eq!(field(result.unwrap_err()), "units");
    }
}

#[test]
fn head_budgets_share_out_one_whole_budget() {
    let case = scene(SMALL, 222).task;
    let budgets = HeadBudgets { shares: vec![vec![4.0, 1.0], vec![2.0, 1.0]] };
    let base = per_head(Layered::kept_len(12)).with_protect(BARE);
    let compacted = run(&case, &base.clone().with_head_budgets(budgets));
    let lens: Vec<usize> =
        compacted.layers.iter().flat_map(|l| l.kept.lists().iter().map(Vec::len)).collect();
    assert_eq!(lens, [24, 6, 12, 6]);
    assert_ragged_is_sound(&case, &compacted);
    // Equal shares are no shares at all.
    let equal = run(&case, &base.clone().with_head_budgets(HeadBudgets::uniform(2, 2)));
    let none = run(&case, &base);
    for (a, b) in equal.layers.iter().zip(&none.layers) {
        assert_eq!(a.kept, b.kept);
        assert_eq!(bits(&a.values), bits(&b.values));
    }
    let wrong = base.with_head_budgets(HeadBudgets::uniform(2, 3));
    let error = compact(&case.layers, &case.queries, &wrong).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "head_budgets", .. }), "{error:?}");
}

#[test]
fn counts_from_outside_are_taken_and_checked() {
    let case = random(SMALL, 1.0, 223);
    let config = per_head(Layered::keep_ratio(0.3));
    let counts = budgets::counts(&case.layers, &config).unwrap();
    assert_eq!(counts, [[15, 15], [15, 15]]);
    let with = |config: &Compaction, counts: &[Vec<usize>]| {
        Compactor::new(&case.layers, &case.queries, config).counts(counts).run()
    };
    let compacted = with(&config, &[vec![5, 40], vec![9, 4]]).unwrap();
    let lens: Vec<usize> =
        compacted.layers.iter().flat_map(|l| l.kept.lists().iter().map(Vec::len)).collect();
    assert_eq!(lens, [5, 40, 9, 4]);
    assert!(matches!(with(&config, &[vec![5, 5]]), Err(Error::Shape { arg: "counts", .. })));
    assert!(matches!(with(&config, &[vec![5, 0], vec![5, 5]]), Err(Error::Config { field: "counts", .. })));
    let shared = Layered::keep_ratio(0.3);
    assert!(matches!(with(&shared, &[vec![5, 5], vec![5, 5]]), Err(Error::Config { field: "counts", .. })));
}

/// Select once, fit layer by layer: what an on-policy pass does.
#[test]
fn a_selection_can_be_fitted_layer_by_layer() {
    let case = scene(SMALL, 224).task;
    for selection in
        [Selection::shared(), Selection::per_layer(), Selection::per_head(), Selection::omp(Omp::default())]
    {
        let config = Layered::keep_ratio(0.3).with_selection(selection);
        let whole = run(&case, &config);
        let selected = Compactor::new(&case.layers, &case.queries, &config).select().unwrap();
        for (index, want) in whole.layers.iter().enumerate() {
            let own = selected.layer(index);
            let (layer, queries) = (&case.layers[index..=index], &case.queries[index..=index]);
            let one = Compactor::new(layer, queries, &config).selected(&own).run().unwrap();
            assert_eq!(one.layers[0].kept, want.kept);
            assert_eq!(bits(&one.layers[0].values), bits(&want.values));
            assert_eq!(bits(&one.layers[0].bias), bits(&want.bias));
        }
    }
}
