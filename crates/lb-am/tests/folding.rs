//! What does not stay is folded into what does: against plain loops in f64, and with everything else.

use std::slice::from_ref;

use candle_core::{DType, Device, Tensor};
use lb_am::backend::{Cpu, Reference};
use lb_am::{
    BetaMethod, Compacted, Compaction, Compactor, Error, Fidelity, Folding, Kept, LayerKv, Protected,
    Selection, ValuesMethod, compact, compact_at,
};

use super::{BARE, F32_TOLERANCE, assert_close, assert_keys_gathered, bits, run};
use crate::support::caches::{Case, Dims, SMALL, random, scene};
use crate::support::layered::Layered;
use crate::support::oracle::{Head, Rows, heads, rows2, rows3};

const FOLDINGS: [Folding; 4] = [
    Folding::Mass,
    Folding::Similar { threshold: 0.0 },
    Folding::Similar { threshold: 0.3 },
    Folding::Backfill { rank: 2 },
];
const SINKS: Protected = Protected { first: 2, last: 1 };

fn ragged() -> Vec<Kept> {
    let lists = vec![vec![0u32, 1, 5, 9, 33, 47], (7..40).step_by(3).collect()];
    vec![Kept::per_head(lists), Kept::shared(vec![0, 3, 11, 12, 30])]
}

fn only(folding: Folding) -> Compaction {
    Layered::keep_ratio(0.3)
        .with_selection(Selection::per_head())
        .with_protect(SINKS)
        .with_folding(folding)
        .selection_only()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Values and biases of the kept slots after folding.
fn folded(head: &Head, kept: &[u32], folding: Folding) -> (Rows, Vec<f64>) {
    let scores = head.scores(lb_am::ScoreAgg::Mean);
    let mut values = head.values_of(kept);
    let mut bias: Vec<f64> = kept.iter().map(|slot| head.bias[*slot as usize]).collect();
    let live = |slot: usize| head.bias[slot] != f64::NEG_INFINITY;
    let takes: Vec<usize> =
        (0..kept.len()).filter(|i| kept[*i] >= SINKS.first as u32 && live(kept[*i] as usize)).collect();
    let gone: Vec<usize> =
        (0..head.keys.len()).filter(|slot| live(*slot) && !kept.contains(&(*slot as u32))).collect();
    let nearest = |slot: usize| {
        let cosine = |i: &usize| {
            let other = &head.keys[kept[*i] as usize];
            dot(&head.keys[slot], other) / norm(&head.keys[slot]) / norm(other)
        };
        let best = takes.iter().copied().max_by(|a, b| cosine(a).total_cmp(&cosine(b)).then(b.cmp(a)));
        best.map(|i| (i, cosine(&i))).unwrap()
    };
    let mut merged = vec![(vec![0.0; values[0].len()], 0.0); kept.len()];
    for slot in &gone {
        let (i, cosine) = nearest(*slot);
        let own = kept[i] as usize;
        let weight = match folding {
            Folding::Mass => scores[*slot] / scores[own],
            Folding::Similar { threshold } if cosine >= threshold => {
                let (a, b) = (norm(&head.values[*slot]), norm(&head.values[own]));
                cosine.max(0.0) * a / (a + b + 1e-6)
            }
            _ => 0.0,
        };
        merged[i].0.iter_mut().zip(&head.values[*slot]).for_each(|(sum, x)| *sum += weight * x);
        merged[i].1 += weight;
    }
    for (i, (sum, weight)) in merged.iter().enumerate() {
        values[i].iter_mut().zip(sum).for_each(|(x, sum)| *x = (*x + sum) / (1.0 + weight));
        if folding == Folding::Mass {
            bias[i] += (1.0 + weight).ln();
        }
    }
    (values, bias)
}

fn check(case: &Case, folding: Folding) {
    let done = compact_at(&case.layers, &case.queries, &ragged(), &only(folding)).unwrap();
    for ((layer, queries), small) in case.layers.iter().zip(&case.queries).zip(&done.layers) {
        let (values, bias) = (rows3(&small.values), rows2(&small.bias));
        for (h, head) in heads(layer, queries).iter().enumerate() {
            let kept = small.kept.head(h);
            let (want, want_bias) = folded(head, kept, folding);
            for (row, want) in want.iter().enumerate() {
                assert_close(&values[h][row], want, 10.0 * F32_TOLERANCE);
                let (got, want) = (bias[h][row], want_bias[row]);
                assert!(
                    got.to_bits() == want.to_bits() || (got - want).abs() < 10.0 * F32_TOLERANCE,
                    "{got} against {want}"
                );
            }
            // What only fills up a shorter head stays empty.
            for row in kept.len()..small.kept_len() {
                assert!(values[h][row].iter().all(|x| *x == 0.0) && bias[h][row] == f64::NEG_INFINITY);
            }
        }
    }
}

#[test]
fn merging_is_what_plain_loops_say() {
    let biased = |head: usize, slot: usize| match slot {
        3 | 20..25 if head == 1 => f32::NEG_INFINITY,
        slot => (slot as f32 * 0.7).sin(),
    };
    for folding in FOLDINGS.into_iter().take(3) {
        check(&random(SMALL, 2.0, 701), folding);
        check(&random(SMALL, 2.0, 702).with_bias(biased), folding);
    }
}

/// Where all keys are equal, every slot weighs as much as another: what is left of them weighs as all did.
#[test]
fn a_mass_fold_of_equal_keys_weighs_as_many_positions() {
    let mut case = random(SMALL, 1.0, 703);
    for layer in &mut case.layers {
        let key = layer.keys.narrow(1, 0, 1).unwrap();
        layer.keys = key.broadcast_as(layer.keys.shape()).unwrap().contiguous().unwrap();
    }
    let done = compact_at(&case.layers, &case.queries, &ragged(), &only(Folding::Mass)).unwrap();
    for (small, layer) in done.layers.iter().zip(&case.layers) {
        for (h, bias) in rows2(&small.bias).iter().enumerate() {
            let mass: f64 = bias.iter().map(|b| b.exp()).sum();
            assert!((mass - 48.0).abs() < 1e-3, "{mass}");
            // All went to the earliest that takes anything, which is their mean now.
            let at = small.kept.head(h).iter().position(|slot| *slot >= 2).unwrap();
            let (values, kept) = (&rows3(&layer.values)[h], small.kept.head(h));
            let went = |slot: &usize| *slot == kept[at] as usize || !kept.contains(&(*slot as u32));
            let went: Vec<usize> = (0..48).filter(went).collect();
            let mean: Vec<f64> = (0..SMALL.head_dim)
                .map(|x| went.iter().map(|slot| values[*slot][x]).sum::<f64>() / went.len() as f64)
                .collect();
            assert_close(&rows3(&small.values)[h][at], &mean, 1e-4);
        }
    }
}

/// The span of all rests has at most as many axes as the values that stay leave: with so many, all of the mean is added.
#[test]
fn a_backfill_adds_what_the_kept_values_cannot_express() {
    let case = random(SMALL, 2.0, 704);
    let lists: Vec<u32> = vec![0, 1, 5, 20, 33];
    let config = only(Folding::Backfill { rank: 64 });
    let kept = [Kept::shared(lists.clone())];
    let done = compact_at(&case.layers, &case.queries, &kept, &config).unwrap();
    for ((layer, queries), small) in case.layers.iter().zip(&case.queries).zip(&done.layers) {
        let values = rows3(&small.values);
        for (h, head) in heads(layer, queries).iter().enumerate() {
            let scores = head.scores(lb_am::ScoreAgg::Mean);
            // Orthonormal, of the three that take something.
            let mut basis: Rows = Vec::new();
            for slot in [5, 20, 33] {
                let mut row = head.values[slot].clone();
                for axis in &basis {
                    let along = dot(axis, &row);
                    row.iter_mut().zip(axis).for_each(|(x, a)| *x -= along * a);
                }
                let length = norm(&row);
                basis.push(row.iter().map(|x| x / length).collect());
            }
            let mut want = vec![0.0; SMALL.head_dim];
            for slot in (0..48).filter(|slot| !lists.contains(&(*slot as u32))) {
                let mut rest = head.values[slot].clone();
                for axis in &basis {
                    let along = dot(axis, &rest);
                    rest.iter_mut().zip(axis).for_each(|(x, a)| *x -= along * a);
                }
                want.iter_mut().zip(&rest).for_each(|(sum, x)| *sum += scores[slot] * x);
            }
            let stays = scores[5] + scores[20] + scores[33];
            for (row, slot) in lists.iter().enumerate() {
                let share = if row < 2 { 0.0 } else { 1.0 / stays };
                let original = &head.values[*slot as usize];
                let want: Vec<f64> = original.iter().zip(&want).map(|(x, d)| x + share * d).collect();
                assert_close(&values[h][row], &want, 1e-4);
            }
        }
        assert!(rows2(&small.bias).iter().flatten().all(|b| *b == 0.0));
    }
    // With one axis there is less of it, and with as many values as a head is wide nothing at all.
    let one = compact_at(&case.layers, &case.queries, &kept, &only(Folding::Backfill { rank: 1 })).unwrap();
    assert_ne!(bits(&one.layers[0].values), bits(&done.layers[0].values));
    let wide = [Kept::shared((2..2 + SMALL.head_dim as u32).collect())];
    let run = |folding| compact_at(&case.layers, &case.queries, &wide, &only(folding)).unwrap();
    let (none, full) = (run(Folding::None), run(Folding::Backfill { rank: 8 }));
    assert_eq!(bits(&none.layers[1].values), bits(&full.layers[1].values));
}

#[test]
fn keys_stay_and_so_does_what_takes_nothing() {
    let case = random(SMALL, 2.0, 705);
    for folding in FOLDINGS {
        let done = compact_at(
            &case.layers,
            &case.queries,
            &[Kept::shared((0..48).step_by(4).collect())],
            &only(folding),
        );
        for (layer, small) in case.layers.iter().zip(&done.unwrap().layers) {
            assert_keys_gathered(layer, &small.keys, small.kept.head(0));
            // A sink.
            let first = |tensor: &Tensor| bits(&tensor.narrow(1, 0, 1).unwrap());
            assert_eq!(first(&small.values), first(&layer.values), "{folding:?}");
            assert!(small.bias.to_vec2::<f32>().unwrap().iter().all(|row| row[0] == 0.0), "{folding:?}");
        }
    }
    // Too unlike to be merged.
    let strict = only(Folding::Similar { threshold: 1.0 });
    let (strict, none) = (run(&case, &strict), run(&case, &only(Folding::None)));
    assert_eq!(bits(&strict.layers[0].values), bits(&none.layers[0].values));
    // Nothing but sinks stays, or nothing goes.
    for kept in [vec![0, 1], (0..48).collect::<Vec<u32>>()] {
        for folding in FOLDINGS {
            let kept = [Kept::shared(kept.clone())];
            let config = Compaction { beta: BetaMethod::default(), ..only(folding) };
            let run = |config: &Compaction| compact_at(&case.layers, &case.queries, &kept, config).unwrap();
            let (got, want) = (run(&config), run(&config.clone().with_folding(Folding::None)));
            for (got, want) in got.layers.iter().zip(&want.layers) {
                assert_eq!(bits(&got.values), bits(&want.values), "{folding:?}");
                assert_eq!(bits(&got.bias), bits(&want.bias), "{folding:?}");
            }
        }
    }
}

/// A head that keeps all it has takes part in nothing, whatever another one does.
#[test]
fn heads_fold_on_their_own() {
    let case = random(SMALL, 2.0, 706);
    let kept = vec![Kept::per_head(vec![(0..48).collect(), vec![0, 8, 16, 24]]); 2];
    for folding in FOLDINGS {
        let done = compact_at(&case.layers, &case.queries, &kept, &only(folding)).unwrap();
        for (layer, small) in case.layers.iter().zip(&done.layers) {
            let head = |tensor: &Tensor| bits(&tensor.narrow(0, 0, 1).unwrap());
            assert_eq!(head(&small.values), head(&layer.values), "{folding:?}");
            assert!(small.bias.to_vec2::<f32>().unwrap()[0].iter().all(|b| *b == 0.0), "{folding:?}");
        }
    }
}

#[test]
fn the_same_on_both_backends_in_every_run_and_with_every_fit() {
    let scene = scene(Dims { seq_len: 40, queries: 12, ..SMALL }, 707);
    let fits = [
        (BetaMethod::Zero, ValuesMethod::Copy),
        (BetaMethod::default(), ValuesMethod::default()),
        (BetaMethod::steps(6), ValuesMethod::RidgeLeaveOneOut),
    ];
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let case = scene.task.to_dtype(dtype);
        for folding in FOLDINGS {
            for (beta, values) in fits {
                for selection in [Selection::per_layer(), Selection::per_head(), Selection::shared()] {
                    let config = Compaction { beta, values, ..only(folding) }.with_selection(selection);
                    let on = |backend| {
                        let compactor = Compactor::new(&case.layers, &case.queries, &config);
                        compactor.with_backend(backend).run().unwrap()
                    };
                    let (cpu, again, reference) = (on(&Cpu), on(&Cpu), on(&Reference));
                    let total = Fidelity::measure(&case.layers, &cpu.layers, &scene.answer).unwrap().total;
                    assert!(total.relative_l2.is_finite() && total.mass_error.is_finite(), "{config:?}");
                    same(&cpu, &again, &format!("{config:?}"));
                    // Attention in another order of sums moves a weight, and a rounded value a step, but no fold.
                    for (a, b) in cpu.layers.iter().zip(&reference.layers) {
                        assert_eq!(a.kept, b.kept, "{config:?}");
                        assert_eq!(a.values.dtype(), dtype);
                        let flat =
                            |t: &Tensor| crate::support::compare::flat(&t.to_dtype(DType::F32).unwrap());
                        assert_close(&flat(&a.values), &flat(&b.values), tolerance(dtype));
                    }
                }
            }
        }
    }
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2e-3,
        DType::F16 => 1e-2,
        _ => 0.1,
    }
}

fn same(a: &Compacted, b: &Compacted, at: &str) {
    for (a, b) in a.layers.iter().zip(&b.layers) {
        assert_eq!(bits(&a.values), bits(&b.values), "{at}");
        assert_eq!(bits(&a.bias), bits(&b.bias), "{at}");
    }
}

/// The fits begin where the fold ends.
#[test]
fn values_are_held_to_the_folded_ones_and_biases_begin_at_them() {
    let case = random(SMALL, 2.0, 708);
    let kept = ragged();
    let run = |config: &Compaction| compact_at(&case.layers, &case.queries, &kept, config).unwrap();
    let plain = run(&only(Folding::Mass));
    let values = ValuesMethod::Ridge { lambda: 1e6, importance: 0.0 };
    let stiff = run(&only(Folding::Mass).with_values(values));
    let unmoved = run(&only(Folding::Mass).with_beta(BetaMethod::Zero));
    for ((plain, stiff), unmoved) in plain.layers.iter().zip(&stiff.layers).zip(&unmoved.layers) {
        let flat = crate::support::compare::flat;
        assert_close(&flat(&stiff.values), &flat(&plain.values), 1e-4);
        assert_eq!(bits(&unmoved.bias), bits(&plain.bias));
    }
}

/// What is folded weighs what it did: the mass that selecting alone loses is there again.
#[test]
fn a_mass_fold_brings_mass_and_output_back() {
    let (mut before, mut after) = ((0.0, 0.0), (0.0, 0.0));
    for seed in 709..719 {
        let scene = scene(SMALL, seed);
        let error = |folding| {
            let config = only(folding).with_protect(BARE).with_pooling(1);
            let done = compact(&scene.task.layers, &scene.task.queries, &config).unwrap();
            Fidelity::measure(&scene.task.layers, &done.layers, &scene.answer).unwrap().total
        };
        let (none, mass) = (error(Folding::None), error(Folding::Mass));
        before = (before.0 + none.mass_error, before.1 + none.relative_l2);
        after = (after.0 + mass.mass_error, after.1 + mass.relative_l2);
    }
    assert!(after.0 < 0.7 * before.0, "{after:?} against {before:?}");
    assert!(after.1 < before.1, "{after:?} against {before:?}");
}

#[test]
fn it_is_read_and_checked() {
    for (folding, json) in [
        (Folding::None, r#""none""#),
        (Folding::Mass, r#""mass""#),
        (Folding::Similar { threshold: 0.5 }, r#"{"similar":{"threshold":0.5}}"#),
        (Folding::Backfill { rank: 2 }, r#"{"backfill":{"rank":2}}"#),
    ] {
        assert_eq!(serde_json::to_string(&folding).unwrap(), json);
        let config: Compaction = serde_json::from_str(&format!(r#"{{"folding": {json}}}"#)).unwrap();
        assert_eq!(config, Compaction::default().with_folding(folding));
    }
    assert_eq!(serde_json::from_str::<Compaction>("{}").unwrap().folding, Folding::None);
    let case = random(SMALL, 1.0, 720);
    for (folding, field) in [
        (Folding::Similar { threshold: 1.5 }, "folding.threshold"),
        (Folding::Similar { threshold: f64::NAN }, "folding.threshold"),
        (Folding::Backfill { rank: 0 }, "folding.rank"),
        (Folding::Backfill { rank: 65 }, "folding.rank"),
    ] {
        let error = compact(&case.layers, &case.queries, &only(folding)).unwrap_err();
        assert!(matches!(error, Error::Config { field: got, .. } if got == field), "{error}");
    }
}

/// Keys and values of zeros, and queries that look at one slot alone.
#[test]
fn zeros_and_certainty_stay_finite() {
    let zeros = Tensor::zeros((1, 30, 8), DType::F32, &Device::Cpu).unwrap();
    let sharp = (random(Dims { layers: 1, heads: 1, seq_len: 30, ..SMALL }, 1.0, 721).layers.remove(0).keys
        * 40.0)
        .unwrap();
    for (keys, values) in
        [(zeros.clone(), zeros.clone()), (sharp.clone(), zeros.clone()), (sharp.clone(), sharp.clone())]
    {
        let layer = LayerKv::new(keys, values, None).unwrap();
        let queries = sharp.narrow(1, 4, 3).unwrap();
        for folding in FOLDINGS {
            let config = only(folding).with_beta(BetaMethod::default());
            let kept = [Kept::shared(vec![0, 9, 20])];
            let done = compact_at(from_ref(&layer), from_ref(&queries), &kept, &config).unwrap();
            let finite =
                |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_finite());
            assert!(finite(&done.layers[0].values) && finite(&done.layers[0].bias), "{folding:?}");
        }
    }
}
