//! Properties that hold for any cache and any setting.

use lb_am::selectors::{random_positions, recent_positions};
use lb_am::{BetaMethod, Budget, Compaction, Protected, ScoreAgg, Selection, ValuesMethod};
use proptest::prelude::*;

use super::{BARE, assert_keys_gathered, run, slots};
use crate::support::caches::{Dims, random};
use crate::support::layered::Layered;

fn dims() -> impl Strategy<Value = Dims> {
    (1..3usize, 1..4usize, 1..40usize, 1..9usize, 1..9usize).prop_map(
        |(layers, heads, seq_len, head_dim, queries)| Dims { layers, heads, seq_len, head_dim, queries },
    )
}

fn budget() -> impl Strategy<Value = Budget> {
    prop_oneof![
        (0.0..20.0f64, 1..50usize, 0.01..1.0f64).prop_map(|(tau, min_kept, max_ratio)| Budget::Mad {
            tau,
            min_kept,
            max_ratio
        }),
        (0.01..=1.0f64).prop_map(Budget::KeepRatio),
        (1..60usize).prop_map(Budget::KeptLen),
    ]
}

fn config() -> impl Strategy<Value = Compaction> {
    let parts = (
        budget(),
        prop_oneof![Just(Selection::shared()), Just(Selection::per_layer())],
        prop_oneof![Just(ScoreAgg::Mean), Just(ScoreAgg::Max), Just(ScoreAgg::Rms)],
        (0..6usize).prop_map(|half| 2 * half + 1),
        (0..6usize, 0..4usize).prop_map(|(first, last)| Protected { first, last }),
        prop_oneof![Just(BetaMethod::Zero), Just(BetaMethod::steps(8))],
        prop_oneof![
            Just(ValuesMethod::Copy),
            Just(ValuesMethod::LeastSquares),
            (0.01..10.0f64, 0.0..3.0f64)
                .prop_map(|(lambda, importance)| ValuesMethod::Ridge { lambda, importance })
        ],
    );
    parts.prop_map(|(budget, mask, score, pooling, protect, beta, values)| {
        Layered::with_budget(budget)
            .with_selection(mask)
            .with_score(score)
            .with_pooling(pooling)
            .with_protect(protect)
            .with_beta(beta)
            .with_values(values)
    })
}

fn ascending(slots: &[u32], seq_len: usize) -> bool {
    slots.windows(2).all(|pair| pair[0] < pair[1])
        && slots.last().is_none_or(|last| (*last as usize) < seq_len)
}

fn protected(protect: Protected, seq_len: usize) -> Vec<u32> {
    (0..seq_len as u32)
        .filter(|j| (*j as usize) < protect.first || (*j as usize) + protect.last >= seq_len)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn any_compaction_is_well_formed(dims in dims(), config in config(), seed: u64, sharpness in 0.0..30.0f32) {
        let case = random(dims, sharpness, seed);
        let compacted = run(&case, &config);
        let shielded = protected(config.protect, dims.seq_len);
        for (layer, small) in case.layers.iter().zip(&compacted.layers) {
            let t = slots(small).len();
            prop_assert!(t >= 1 && ascending(slots(small), dims.seq_len));
            prop_assert!(shielded.iter().all(|slot| slots(small).contains(slot)));
            let want = match config.budget {
                Budget::KeepRatio(ratio) => Some((ratio * dims.seq_len as f64 - 1e-9).ceil() as usize),
                Budget::KeptLen(len) => Some(len.min(dims.seq_len)),
                _ => None,
            };
            if let Some(want) = want {
                prop_assert_eq!(t, want.max(shielded.len()));
            }
            prop_assert_eq!(small.keys.dims(), [dims.heads, t, dims.head_dim]);
            prop_assert_eq!(small.values.dims(), [dims.heads, t, dims.head_dim]);
            prop_assert_eq!(small.bias.dims(), [dims.heads, t]);
            assert_keys_gathered(layer, &small.keys, slots(small));
            for tensor in [&small.values, &small.bias] {
                let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
                prop_assert!(values.iter().all(|value| value.is_finite()));
            }
        }
        let report = &compacted.report;
        prop_assert_eq!(report.scores.len(), dims.seq_len);
        prop_assert!(report.scores.iter().zip(&report.raw_scores).all(|(pooled, raw)| pooled >= raw));
        prop_assert_eq!(report.kept_len, compacted.layers.iter().map(|l| slots(l).len()).max().unwrap());
        prop_assert!(report.timing.total >= report.timing.scores);
        if let Some(fit) = &report.beta {
            prop_assert!(fit.mass_error_after <= fit.mass_error_before + 1e-6, "{:?}", fit);
        }
        if let (Some(fit), ValuesMethod::Ridge { .. }) = (&report.values, config.values) {
            prop_assert!(fit.output_error_after <= fit.output_error_before + 1e-5, "{:?}", fit);
        }
    }

    #[test]
    fn a_larger_ratio_keeps_what_a_smaller_one_kept(
        dims in dims(), seed: u64, low in 0.01..1.0f64, high in 0.01..1.0f64, pooling in 0..4usize,
    ) {
        let (low, high) = (low.min(high), low.max(high));
        let case = random(dims, 2.0, seed);
        let at = |ratio: f64| {
            let config = Layered::keep_ratio(ratio).with_pooling(2 * pooling + 1).with_protect(BARE);
            run(&case, &config.with_values(ValuesMethod::Copy).with_beta(BetaMethod::Zero)).layers[0].kept.head(0).to_vec()
        };
        let (few, many) = (at(low), at(high));
        prop_assert!(few.len() <= many.len() && few.iter().all(|slot| many.contains(slot)));
    }

    #[test]
    fn a_higher_tau_keeps_less(dims in dims(), seed: u64, low in 0.0..10.0f64, more in 0.0..10.0f64) {
        let case = random(dims, 2.0, seed);
        let at = |tau: f64| {
            let budget = Budget::Mad { tau, min_kept: 1, max_ratio: 1.0 };
            let config = Layered::with_budget(budget).with_values(ValuesMethod::Copy);
            run(&case, &config.with_beta(BetaMethod::Zero)).layers[0].kept.head(0).to_vec()
        };
        let (many, few) = (at(low), at(low + more));
        prop_assert!(few.len() <= many.len() && few.iter().all(|slot| many.contains(slot)));
    }

    #[test]
    fn baselines_meet_any_budget(
        seq_len in 0..200usize, kept_len in 0..250usize, first in 0..10usize, last in 0..10usize, seed: u64,
    ) {
        let protect = Protected { first, last };
        let shielded = protected(protect, seq_len);
        for slots in [random_positions(seq_len, kept_len, protect, seed), recent_positions(seq_len, kept_len, protect)] {
            prop_assert_eq!(slots.len(), kept_len.max(shielded.len()).min(seq_len));
            prop_assert!(ascending(&slots, seq_len));
            prop_assert!(shielded.iter().all(|slot| slots.contains(slot)));
        }
    }
}
