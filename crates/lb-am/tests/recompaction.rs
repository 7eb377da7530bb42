//! A compacted cache is a cache: it can be compacted again.

use lb_am::{BetaMethod, Compacted, ValuesMethod};

use super::{BARE, F32_TOLERANCE, assert_close, bits, pairs, run, shared, slots, wide};
use crate::support::caches::{Case, SMALL, random};
use crate::support::layered::Layered;
use crate::support::oracle;

fn again(case: &Case, compacted: &Compacted) -> Case {
    let layers = compacted.layers.iter().map(|layer| layer.to_layer().unwrap()).collect();
    Case { layers, queries: case.queries.clone() }
}

#[test]
fn biases_add_up() {
    let case = random(SMALL, 1.0, 71);
    let first = run(&case, &shared(Layered::kept_len(24)));
    let middle = again(&case, &first);
    let config = Layered::kept_len(10).with_beta(BetaMethod::Zero).with_values(ValuesMethod::Copy);
    let second = run(&middle, &config);
    for (old, new) in first.layers.iter().zip(&second.layers) {
        let (old_bias, new_bias) = (old.bias.to_vec2::<f32>().unwrap(), new.bias.to_vec2::<f32>().unwrap());
        for (old, row) in old_bias.iter().zip(&new_bias) {
            let want: Vec<f32> = slots(new).iter().map(|slot| old[*slot as usize]).collect();
            assert_eq!(&want, row);
        }
    }
    // With a fit, the correction comes on top: the mass of the biased cache is the target.
    let second = run(&middle, &shared(Layered::kept_len(10)));
    let (mut error, mut total) = (0.0, 0.0);
    for (full, briefed, kept) in pairs(&middle, &second) {
        let w: Vec<f64> =
            kept.iter().zip(&briefed.bias).map(|(j, b)| (b - full.bias[*j as usize]).exp()).collect();
        let (e, z) = full.mass_objective(&kept, &w);
        error += e;
        total += z;
    }
    let fit = second.report.beta.unwrap();
    assert!(((error / total).sqrt() - fit.mass_error_after).abs() < 1e-5);
    assert!(fit.mass_error_after < fit.mass_error_before);
}

#[test]
fn scores_and_values_see_the_carried_bias() {
    let case = random(SMALL, 1.0, 72);
    let middle = again(&case, &run(&case, &shared(Layered::kept_len(30))));
    let second = run(&middle, &shared(Layered::kept_len(12)));
    let per_head: Vec<_> =
        super::all_heads(&middle).iter().map(|head| head.scores(lb_am::ScoreAgg::Mean)).collect();
    let want = oracle::across(&per_head, lb_am::HeadAgg::Mean);
    assert_close(&wide(&second.report.raw_scores), &want, F32_TOLERANCE);
    let scores = wide(&second.report.scores);
    for (full, briefed, kept) in pairs(&middle, &second) {
        let omega = oracle::importance(&scores, &kept, 1.0);
        let x = briefed.attend().probabilities;
        let want = oracle::ridge(&x, &full.attend().output, Some(&full.values_of(&kept)), &omega, 1.0);
        assert_close(&briefed.values.concat(), &want.concat(), F32_TOLERANCE);
    }
}

#[test]
fn keys_keep_their_bits_through_two_rounds() {
    let case = random(SMALL, 1.0, 73);
    let first = run(&case, &shared(Layered::kept_len(30)));
    let second = run(&again(&case, &first), &shared(Layered::kept_len(12)).with_protect(BARE));
    for ((layer, old), new) in case.layers.iter().zip(&first.layers).zip(&second.layers) {
        let original: Vec<u32> = slots(new).iter().map(|slot| slots(old)[*slot as usize]).collect();
        super::assert_keys_gathered(layer, &new.keys, &original);
    }
}

#[test]
fn keeping_everything_again_is_the_identity() {
    let case = random(SMALL, 1.0, 74);
    let first = run(&case, &Layered::kept_len(16));
    let second = run(&again(&case, &first), &Layered::keep_ratio(1.0));
    for (old, new) in first.layers.iter().zip(&second.layers) {
        assert_eq!(bits(&old.values), bits(&new.values));
        assert_eq!(bits(&old.bias), bits(&new.bias));
    }
}
