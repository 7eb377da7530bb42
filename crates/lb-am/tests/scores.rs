//! Position scores: softmax, aggregation over queries, layers and heads, spans.

use candle_core::{Device, Tensor};
use lb_am::{HeadAgg, LayerKv, ScoreAgg, layer_position_scores, position_scores};

use super::{BARE, F32_TOLERANCE, all_heads, assert_close, run, slots, wide};
use crate::support::caches::{SMALL, random};
use crate::support::layered::Layered;
use crate::support::oracle;

const SCORES: [ScoreAgg; 3] = [ScoreAgg::Mean, ScoreAgg::Max, ScoreAgg::Rms];
const ACROSS: [HeadAgg; 2] = [HeadAgg::Mean, HeadAgg::Max];

#[test]
fn agree_with_the_oracle() {
    let case = random(SMALL, 2.0, 1).with_bias(|h, j| (h as f32 - 0.5) * (j % 5) as f32 * 0.3);
    for score in SCORES {
        let per_head: Vec<Vec<f64>> = all_heads(&case).iter().map(|head| head.scores(score)).collect();
        for across in ACROSS {
            let shared = position_scores(&case.layers, &case.queries, score, across).unwrap();
            assert_close(&wide(&shared), &oracle::across(&per_head, across), F32_TOLERANCE);
            let layers = layer_position_scores(&case.layers, &case.queries, score, across).unwrap();
            for (layer, heads) in layers.iter().zip(per_head.chunks(SMALL.heads)) {
                assert_close(&wide(layer), &oracle::across(heads, across), F32_TOLERANCE);
            }
        }
    }
}

#[test]
fn reports_hold_raw_and_pooled_scores() {
    let case = random(SMALL, 2.0, 2);
    let raw = position_scores(&case.layers, &case.queries, ScoreAgg::Rms, HeadAgg::Max).unwrap();
    for pooling in [1, 3, 9] {
        let config = Layered::keep_ratio(0.5).with_score(ScoreAgg::Rms).with_across(HeadAgg::Max);
        let report = run(&case, &config.with_pooling(pooling)).report;
        assert_eq!(report.raw_scores, raw);
        assert_close(&wide(&report.scores), &oracle::pool(&wide(&raw), pooling), 0.0);
    }
}

/// Two query heads of one group look at different positions. Averaging the queries of a group would cancel them.
#[test]
fn dissimilar_heads_of_a_group_each_count() {
    let mut keys = vec![vec![0f32; 4]; 20];
    keys[6] = vec![8.0, 0.0, 0.0, 0.0];
    keys[13] = vec![-8.0, 0.0, 0.0, 0.0];
    let keys = Tensor::new(vec![keys], &Device::Cpu).unwrap();
    let layer = LayerKv::new(keys.clone(), keys, None).unwrap();
    let queries = Tensor::new(&[[[4f32, 0.0, 0.0, 0.0], [-4.0, 0.0, 0.0, 0.0]]], &Device::Cpu).unwrap();
    let config = Layered::kept_len(2).with_pooling(1).with_protect(BARE);
    let compacted = lb_am::compact(&[layer], &[queries], &config).unwrap();
    assert_eq!(slots(&compacted.layers[0]), [6, 13]);
}

/// A span keeps the tokens behind the phrase that the task attends to.
#[test]
fn pooling_keeps_the_neighbours_of_a_peak() {
    let mut case = random(SMALL, 0.1, 3);
    for layer in &mut case.layers {
        let mut keys = layer.keys.to_vec3::<f32>().unwrap();
        for head in &mut keys {
            head[20] = vec![3.0; SMALL.head_dim];
        }
        layer.keys = Tensor::new(keys, &Device::Cpu).unwrap();
    }
    let ones = Tensor::ones((2, 6, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
    case.queries = vec![ones; 2];
    let config = Layered::kept_len(5).with_protect(BARE);
    assert_eq!(slots(&run(&case, &config.clone().with_pooling(5)).layers[0]), [18, 19, 20, 21, 22]);
    assert_ne!(slots(&run(&case, &config.with_pooling(1)).layers[0]), [18, 19, 20, 21, 22]);
}

#[test]
fn logits_of_ten_thousand_stay_finite_and_right() {
    // |s| reaches about 1e4; f32 resolves such a logit to about 1e-3, and so its weight.
    const TOLERANCE: f64 = 5e-3;
    let case = random(SMALL, 4000.0, 4);
    let heads = all_heads(&case);
    let largest = (0..SMALL.seq_len).map(|j| heads[0].logit(0, j).abs()).fold(0.0, f64::max);
    assert!(largest > 5e3, "{largest}");
    let scores = position_scores(&case.layers, &case.queries, ScoreAgg::Mean, HeadAgg::Mean).unwrap();
    let want: Vec<Vec<f64>> = heads.iter().map(|head| head.scores(ScoreAgg::Mean)).collect();
    assert_close(&wide(&scores), &oracle::across(&want, HeadAgg::Mean), TOLERANCE);
    let compacted = run(&case, &Layered::keep_ratio(0.25));
    for layer in &compacted.layers {
        for tensor in [&layer.values, &layer.bias] {
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            assert!(values.iter().all(|value| value.is_finite()));
        }
    }
}

/// The mean over (layer, head) counts every head once; adding a copy of a layer changes nothing.
#[test]
fn a_repeated_layer_changes_no_mean() {
    let case = random(SMALL, 1.0, 5);
    let scores = |layers: &[LayerKv], queries: &[Tensor]| {
        position_scores(layers, queries, ScoreAgg::Mean, HeadAgg::Mean).unwrap()
    };
    let once = scores(&case.layers, &case.queries);
    let twice =
        scores(&[case.layers.clone(), case.layers].concat(), &[case.queries.clone(), case.queries].concat());
    assert_close(&wide(&once), &wide(&twice), 1e-7);
    assert!((wide(&once).iter().sum::<f64>() - 1.0).abs() < 1e-5, "attention sums to one");
}
