//! CriticalKV, KeyDiff and FINCH against plain loops in f64.

use lb_am::selectors::{CriticalKv, Finch, KeyDiff};
use lb_am::{Compaction, Compactor, Selection, Sharing, Spans, Units};

use super::baseline_matrix::{
    At, BARE, GROUP, SLOTS, Scene, TOKENS, add, best, compare, compare_picks, dot, of,
};

/// Mean attention of all of the task's queries.
fn attention(head: &At<'_>) -> Vec<f64> {
    let mut scores = vec![0.0; SLOTS];
    for row in 0..GROUP * TOKENS {
        add(&mut scores, &head.attention(&head.scene.case.queries, row, SLOTS));
    }
    scores.iter().map(|sum| sum / (GROUP * TOKENS) as f64).collect()
}

#[test]
fn critical_kv_is_attention_first_and_then_attention_times_the_value() {
    for (selector, part) in [
        (CriticalKv::default(), 0.5),
        (CriticalKv { first: 0.0, ..CriticalKv::default() }, 0.0),
        (CriticalKv { first: 1.0, ..CriticalKv::default() }, 1.0),
    ] {
        compare_picks(&of(selector), |head, count| {
            let (scores, values) = (attention(head), head.values());
            let first = best(&scores, (count as f64 * part) as usize, 0);
            let norm = |value: &Vec<f64>| value.iter().map(|x| x.abs()).sum::<f64>();
            let weighted = scores.iter().zip(&values).enumerate().map(|(slot, (score, value))| {
                let above = if first.contains(&(slot as u32)) { 1e3 } else { 0.0 };
                above + (score + 1e-4) * norm(value)
            });
            best(&weighted.collect::<Vec<f64>>(), count, 0)
        });
    }
}

#[test]
fn keydiff_prefers_keys_unlike_the_mean() {
    compare(
        &of(KeyDiff),
        |_| 0,
        |head| {
            let keys = head.keys();
            let norm = |key: &[f64]| dot(key, key).sqrt();
            let mut mean = vec![0.0; keys[0].len()];
            for key in &keys {
                let direction: Vec<f64> = key.iter().map(|x| x / norm(key)).collect();
                add(&mut mean, &direction);
            }
            keys.iter().map(|key| -dot(key, &mean) / norm(key) / norm(&mean)).collect()
        },
    );
}

/// Attention of the task's tokens, each by the number of positions before it.
fn finch(head: &At<'_>) -> Vec<f64> {
    let mut scores = vec![0.0; SLOTS];
    for row in 0..GROUP * TOKENS {
        let seen = (SLOTS + row % TOKENS) as f64;
        let weighted = head.attention(&head.scene.case.queries, row, SLOTS);
        add(&mut scores, &weighted.iter().map(|p| p * seen).collect::<Vec<f64>>());
    }
    scores
}

#[test]
fn finch_weighs_tokens_by_what_they_see() {
    compare(&of(Finch::default()), |_| 0, finch);
}

#[test]
fn finch_shares_a_count_out_among_chunks() {
    compare_picks(&of(Finch { chunk: 5 }), |head, count| {
        let scores = finch(head);
        let mut kept = Vec::new();
        for (start, end) in [(0, 5), (5, 10), (10, 14)] {
            let share = count * end / SLOTS - count * start / SLOTS;
            kept.extend(best(&scores[start..end], share, 0).iter().map(|slot| slot + start as u32));
        }
        kept
    });
}

/// What comes first takes its whole sentence along.
#[test]
fn stages_and_chunks_keep_units_whole() {
    let scene = Scene::small();
    let units = [0..6, 6..11, 11..16, 16..20];
    for text in ["critical-kv", "finch", "finch:chunk=7"] {
        let config = Compaction::kept_len(12)
            .with_selection(text.parse::<Selection>().unwrap())
            .with_spans(Spans::Units(Units::Sentences))
            .with_protect(BARE);
        let selected = Compactor::new(&scene.case.layers, &scene.case.queries, &config)
            .group_size(GROUP)
            .units(&[0, 6, 11, 16])
            .select()
            .unwrap();
        for list in selected.kept.iter().flat_map(lb_am::Kept::lists) {
            for unit in &units {
                let inside = list.iter().filter(|slot| unit.contains(&(**slot as usize))).count();
                assert!(inside == 0 || inside == unit.len(), "{text}: {list:?}");
            }
        }
    }
}

#[test]
fn counts_are_shared_out_by_the_first_scores() {
    let scene = Scene::new(&[40, 40], 3, 6, 9, 31);
    for text in ["critical-kv", "keydiff", "finch"] {
        let config = Compaction::kept_len(10)
            .with_selection(text.parse::<Selection>().unwrap())
            .with_spans(Spans::OFF)
            .with_sharing(Sharing::All { floor: 0.2 });
        let compactor = Compactor::new(&scene.case.layers, &scene.case.queries, &config).group_size(GROUP);
        let kept = compactor.select().unwrap().kept;
        assert_eq!(kept.iter().map(|kept| kept.total(3)).sum::<usize>(), 2 * 3 * 10, "{text}");
        assert!(kept.iter().any(lb_am::Kept::is_ragged), "{text}");
    }
}
