//! Caches in half precision against the f64 oracle: only the storage rounds.

use candle_core::{DType, Tensor};
use lb_am::{BetaMethod, HeadAgg, ScoreAgg, ValuesMethod, position_scores};

use super::{
    F32_TOLERANCE, all_heads, assert_close, assert_keys_gathered, bits, pairs, run, shared, slots, wide,
};
use crate::support::caches::{Case, SMALL, random};
use crate::support::layered::Layered;
use crate::support::oracle;

/// Half a unit in the last of 8 significant bits, relative.
const BF16_ROUNDING: f64 = 1.0 / 256.0;
/// Half a unit in the last of 11 significant bits, relative.
const F16_ROUNDING: f64 = 1.0 / 2048.0;
const DTYPES: [(DType, f64); 2] = [(DType::BF16, BF16_ROUNDING), (DType::F16, F16_ROUNDING)];

fn halved(dtype: DType, seed: u64) -> Case {
    random(SMALL, 1.5, seed).to_dtype(dtype)
}

#[test]
fn scores_see_the_stored_cache_at_f32_precision() {
    for (dtype, _) in DTYPES {
        let mut case = halved(dtype, 41);
        for in_cache_dtype in [false, true] {
            if in_cache_dtype {
                case.queries = case.queries.iter().map(|q| q.to_dtype(dtype).unwrap()).collect();
            }
            let scores = position_scores(&case.layers, &case.queries, ScoreAgg::Mean, HeadAgg::Mean).unwrap();
            let want: Vec<_> = all_heads(&case).iter().map(|head| head.scores(ScoreAgg::Mean)).collect();
            assert_close(&wide(&scores), &oracle::across(&want, HeadAgg::Mean), F32_TOLERANCE);
        }
    }
}

#[test]
fn values_are_the_oracle_rounded_once() {
    for (dtype, rounding) in DTYPES {
        for kept in [24, 5] {
            let case = halved(dtype, 42);
            let compacted = run(&case, &shared(Layered::kept_len(kept)));
            let scores = wide(&compacted.report.scores);
            for (layer, small) in case.layers.iter().zip(&compacted.layers) {
                assert_eq!((small.keys.dtype(), small.values.dtype()), (dtype, dtype));
                assert_keys_gathered(layer, &small.keys, slots(small));
            }
            for (full, briefed, kept) in pairs(&case, &compacted) {
                let omega = oracle::importance(&scores, &kept, 1.0);
                let x = briefed.attend().probabilities;
                let prior = full.values_of(&kept);
                let want = oracle::ridge(&x, &full.attend().output, Some(&prior), &omega, 1.0);
                for (got, want) in briefed.values.iter().flatten().zip(want.iter().flatten()) {
                    let allowed = rounding * want.abs() * 1.01 + F32_TOLERANCE;
                    assert!((got - want).abs() <= allowed, "{dtype:?}: {got} against {want}");
                }
            }
        }
    }
}

/// Attention may add the bias in the cache dtype, so the stored bias is one that the dtype can hold, and it is the one
/// that the values were fitted against.
#[test]
fn values_are_fitted_against_the_rounded_bias() {
    for (dtype, _) in DTYPES {
        let case = halved(dtype, 43);
        let compacted = run(&case, &Layered::keep_ratio(0.25));
        let mut moved = false;
        for layer in &compacted.layers {
            assert_eq!(layer.bias.dtype(), DType::F32);
            let rounded: Tensor = layer.bias.to_dtype(dtype).unwrap();
            assert_eq!(bits(&layer.bias), bits(&rounded));
            moved |= bits(&layer.bias).iter().any(|b| *b != 0);
        }
        assert!(moved);
    }
    // The same cache in f32 has biases that bf16 cannot hold; so the rounding above did something.
    let case = halved(DType::BF16, 43).to_dtype(DType::F32);
    let exact = run(&case, &Layered::keep_ratio(0.25));
    let bias = &exact.layers[0].bias;
    assert_ne!(bits(bias), bits(&bias.to_dtype(DType::BF16).unwrap()));
}

#[test]
fn biases_lower_the_mass_error_as_stored() {
    for (dtype, rounding) in DTYPES {
        let case = halved(dtype, 44);
        let config = Layered::keep_ratio(0.25).with_values(ValuesMethod::Copy);
        let compacted = run(&case, &config.clone().with_beta(BetaMethod::default()));
        let fit = compacted.report.beta.clone().unwrap();
        let (mut error, mut total) = (0.0, 0.0);
        for (full, briefed, kept) in pairs(&case, &compacted) {
            let w: Vec<f64> = briefed.bias.iter().map(|b| b.exp()).collect();
            let (e, z) = full.mass_objective(&kept, &w);
            error += e;
            total += z;
        }
        let stored = (error / total).sqrt();
        // A bias of at most 3 rounds by at most 4 * rounding, its weight by that share.
        assert!((stored - fit.mass_error_after).abs() < 4.0 * rounding, "{dtype:?}: {stored}, {fit:?}");
        assert!(stored < 0.5 * fit.mass_error_before, "{dtype:?}: {stored}, {fit:?}");
    }
}
