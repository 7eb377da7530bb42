//! Counts shared out among heads by their scores, and budgets that are a share of the scores.

use lb_am::{Budget, Compaction, Error, Kept, ScoreAgg, Selection, Sharing, budgets};

use super::{BARE, all_heads, run};
use crate::support::caches::{Case, SMALL, random};

fn per_head(config: Compaction) -> Compaction {
    let equal = config.with_selection(Selection::per_head()).with_sharing(Sharing::Equal);
    equal.with_score(ScoreAgg::Mean).with_pooling(1).with_protect(BARE)
}

/// Heads of different temper: some look at a few slots, some at all.
fn uneven(seed: u64) -> Case {
    let mut case = random(SMALL, 3.0, seed);
    for (index, queries) in case.queries.iter_mut().enumerate() {
        let tempers: Vec<f32> = (0..SMALL.heads).map(|head| [2.0, 0.1][(head + index) % 2]).collect();
        let tempers =
            candle_core::Tensor::new(tempers, queries.device()).unwrap().reshape((SMALL.heads, 1, 1));
        *queries = queries.broadcast_mul(&tempers.unwrap()).unwrap();
    }
    case
}

fn lists(case: &Case, config: &Compaction) -> Vec<Vec<u32>> {
    let kept = |kept: &Kept| (0..SMALL.heads).map(|head| kept.head(head).to_vec()).collect::<Vec<_>>();
    run(case, config).layers.iter().flat_map(|layer| kept(&layer.kept)).collect()
}

/// The best slot of each head, and of all others the best until there are `count`, head by head.
fn best_of_all(scores: &[Vec<f64>], count: usize) -> Vec<Vec<u32>> {
    let mut all: Vec<(bool, f64, usize, u32)> = Vec::new();
    for (head, scores) in scores.iter().enumerate() {
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        all.extend(scores.iter().enumerate().map(|(slot, score)| (*score < best, *score, head, slot as u32)));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut lists = vec![Vec::new(); scores.len()];
    all.iter().take(count).for_each(|(_, _, head, slot)| lists[*head].push(*slot));
    for list in &mut lists {
        list.sort_unstable();
    }
    lists
}

#[test]
fn the_best_scores_of_a_layer_or_of_all_layers_stay() {
    let case = uneven(301);
    for score in [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms] {
        let config = per_head(Compaction::kept_len(8)).with_score(score);
        let usual = Compaction { sharing: None, ..config.clone() };
        assert_eq!(
            lists(&case, &usual),
            lists(&case, &config.clone().with_sharing(Sharing::All { floor: 0.2 }))
        );
        let scores: Vec<Vec<f64>> = all_heads(&case).iter().map(|head| head.scores(score)).collect();
        let all = lists(&case, &config.clone().with_sharing(Sharing::All { floor: 0.0 }));
        assert_eq!(all, best_of_all(&scores, 8 * scores.len()), "{score:?}");
        let layer = lists(&case, &config.clone().with_sharing(Sharing::Layer { floor: 0.0 }));
        let each = scores.chunks(SMALL.heads).flat_map(|heads| best_of_all(heads, 8 * SMALL.heads));
        assert_eq!(layer, each.collect::<Vec<_>>(), "{score:?}");
        assert_ne!(all, lists(&case, &config), "{score:?}");
        // A floor of everything is equal counts.
        for sharing in
            [Sharing::All { floor: 1.0 }, Sharing::Layer { floor: 1.0 }, Sharing::Coverage { floor: 1.0 }]
        {
            assert_eq!(lists(&case, &config.clone().with_sharing(sharing)), lists(&case, &config));
        }
    }
}

/// One share for all heads, the fewest slots of each that hold it, and no slot of the whole count left over.
#[test]
fn coverage_is_the_same_share_of_every_head() {
    let case = uneven(302);
    let config = per_head(Compaction::kept_len(8)).with_sharing(Sharing::Coverage { floor: 0.0 });
    let lists = lists(&case, &config);
    let heads = all_heads(&case);
    assert_eq!(lists.iter().map(Vec::len).sum::<usize>(), 8 * heads.len());
    let held = |slots: &[u32], head: usize, less: usize| -> f64 {
        let scores = heads[head].scores(ScoreAgg::Mean);
        let mut own: Vec<f64> = slots.iter().map(|slot| scores[*slot as usize]).collect();
        own.sort_by(|a, b| b.total_cmp(a));
        own[..own.len() - less].iter().sum::<f64>() / scores.iter().sum::<f64>()
    };
    let least = (0..heads.len()).map(|head| held(&lists[head], head, 0)).fold(1.0, f64::min);
    for (head, list) in lists.iter().enumerate() {
        // Without its last slot, or the one before that where a slot was left over, a head holds less than the others.
        assert!(held(list, head, list.len().min(2)) <= least + 1e-6, "head {head} of {} slots", list.len());
    }
    assert!(lists.iter().any(|list| list.len() < 5) && lists.iter().any(|list| list.len() > 11));
}

#[test]
fn a_budget_of_coverage_keeps_the_fewest_slots_that_hold_it() {
    let case = uneven(303);
    for share in [0.3, 0.8, 1.0] {
        let budget = Budget::Coverage { share, min_kept: 1 };
        let lists = lists(&case, &per_head(Compaction::with_budget(budget)));
        for (head, list) in all_heads(&case).iter().zip(&lists) {
            let scores = head.scores(ScoreAgg::Mean);
            let mut sorted = scores.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let enough = |count: usize| {
                sorted[..count].iter().sum::<f64>() >= share * scores.iter().sum::<f64>() - 1e-6
            };
            assert!(enough(list.len()), "{share}");
            assert!(list.len() == 1 || !enough(list.len() - 1) || share > 0.99, "{share}");
        }
    }
    let least =
        lists(&case, &per_head(Compaction::with_budget(Budget::Coverage { share: 0.01, min_kept: 5 })));
    assert!(least.iter().all(|list| list.len() == 5));
}

/// Whatever the budget, sharing moves slots and makes none; what each head has by itself is what there is to share.
#[test]
fn every_budget_can_be_shared_out() {
    let case = uneven(304);
    for config in [
        Compaction::keep_ratio(0.2),
        Compaction::mad(2.0),
        Compaction::coverage(0.7),
        Compaction::error_below(0.3),
    ] {
        let config = Compaction { protect: BARE, ..per_head(config) };
        let shared = config.clone().with_sharing(Sharing::All { floor: 0.2 });
        let (alone, shared) = (lists(&case, &config), lists(&case, &shared));
        assert!(shared.iter().all(|list| !list.is_empty()));
        if !matches!(config.budget, Budget::ErrorBelow { .. }) {
            let sum = |lists: &[Vec<u32>]| lists.iter().map(Vec::len).sum::<usize>();
            assert_eq!(sum(&alone), sum(&shared), "{:?}", config.budget);
        }
    }
}

#[test]
fn selections_that_score_heads_share_and_others_refuse() {
    let case = uneven(305);
    let equal = per_head(Compaction::kept_len(8));
    for name in ["per-head", "snapkv", "omp", "key-norm"] {
        let config = equal.clone().with_selection(name.parse().unwrap());
        let counts = lists(&case, &config.with_sharing(Sharing::All { floor: 0.2 }));
        assert_eq!(counts.iter().map(Vec::len).sum::<usize>(), 8 * counts.len(), "{name}");
    }
    for name in ["shared", "per-layer", "recent", "streaming", "pyramidkv", "h2o", "tova"] {
        let config =
            equal.clone().with_selection(name.parse().unwrap()).with_sharing(Sharing::All { floor: 0.2 });
        let refused = config.validate();
        assert!(matches!(refused, Err(Error::Combination { .. })), "{name}: {refused:?}");
    }
    let uniform = equal.clone().with_head_budgets(lb_am::HeadBudgets::uniform(2, SMALL.heads));
    assert!(uniform.clone().validate().is_ok());
    assert!(uniform.with_sharing(Sharing::All { floor: 0.2 }).validate().is_err());
    assert!(equal.clone().with_sharing(Sharing::Layer { floor: 1.5 }).validate().is_err());
    assert!(equal.clone().with_sharing(Sharing::Layer { floor: f64::NAN }).validate().is_err());
    assert!(Compaction::coverage(0.0).validate().is_err() && Compaction::coverage(1.01).validate().is_err());
    assert!(budgets::counts(&case.layers, &Compaction::coverage(0.5)).is_err());
}
