//! Caches with biases, uneven layers and fewer slots than positions.

use candle_core::{Device, Tensor};
use lb_am::{Compacted, Compaction, LayerKv, compact};
use lb_model::{Error, KvCache, PrefillOptions, Worker};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::checkpoints::{GROUPED, TIED, golden, prompt, worker};
use crate::support::compare::{F32, assert_close, assert_same, distance, flat};
use crate::support::naive_model::{NaiveCache, NaiveModel};

const POSITIONS: usize = 60;

/// Every third slot of a real cache or so, other counts in each layer, biases in ±3.
fn uneven(worker: &Worker, tokens: &[u32]) -> Vec<LayerKv> {
    let mut cache = worker.model().new_cache();
    worker.model().forward(&tokens[..POSITIONS], &mut cache).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let layers = cache.layers().unwrap();
    let pick = |(index, layer): (usize, &LayerKv)| {
        let kept: Vec<u32> = (0..POSITIONS as u32).step_by(index + 2).collect();
        let index = Tensor::new(kept.as_slice(), &Device::Cpu).unwrap();
        let bias: Vec<f32> =
            (0..layer.kv_heads() * kept.len()).map(|_| rng.random_range(-3.0..3.0)).collect();
        let bias = Tensor::from_vec(bias, (layer.kv_heads(), kept.len()), &Device::Cpu).unwrap();
        let take = |t: &Tensor| t.index_select(&index, 1).unwrap();
        LayerKv::new(take(&layer.keys), take(&layer.values), Some(bias)).unwrap()
    };
    layers.iter().enumerate().map(pick).collect()
}

fn cache_of(worker: &Worker, layers: &[LayerKv], positions: usize) -> KvCache {
    let mut cache = worker.model().new_cache();
    cache.append_layers(layers, positions).unwrap();
    cache
}

fn with_bias(layers: &[LayerKv], bias: impl Fn(&Tensor) -> Tensor) -> Vec<LayerKv> {
    let change = |l: &LayerKv| {
        let bias = bias(l.bias.as_ref().unwrap());
        LayerKv::new(l.keys.clone(), l.values.clone(), Some(bias)).unwrap()
    };
    layers.iter().map(change).collect()
}

/// Prefill and decode over biased, uneven layers equal the f64 model; the first new position is the logical length.
#[test]
fn prefill_and_decode_behind_a_compacted_cache_match_the_reference() {
    for name in [TIED, GROUPED] {
        let (worker, naive) = (worker(name), NaiveModel::load(&golden(name)));
        let tokens = prompt(name);
        let layers = uneven(&worker, &tokens);
        let mut cache = cache_of(&worker, &layers, POSITIONS);
        assert_eq!((cache.slot_count(0), cache.slot_count(1)), (30, 20));
        assert_eq!((cache.logical_len(), cache.slots()), (POSITIONS, 30));

        let mut reference = NaiveCache::of(&layers, POSITIONS);
        let logits = worker.model().forward_all(&tokens[60..70], &mut cache).unwrap();
        for (i, &token) in tokens[60..70].iter().enumerate() {
            assert_close(&flat(&logits.get(i).unwrap()), &naive.step(token, &mut reference).logits, F32);
        }
        for &token in &tokens[70..75] {
            let logits = worker.model().forward(&[token], &mut cache).unwrap();
            assert_close(&flat(&logits), &naive.step(token, &mut reference).logits, F32);
        }
        assert_eq!((cache.logical_len(), cache.slot_count(0), cache.slot_count(1)), (75, 45, 35));

        // The same with the slot count as position is another result: the test would notice.
        let mut wrong = NaiveCache::of(&layers, 30);
        let wrong = naive.read(&tokens[60..70], &mut wrong).logits;
        assert!(distance(&flat(&logits.get(9).unwrap()), &wrong) > 0.05);
    }
}

#[test]
fn biases_matter_and_zero_biases_do_not() {
    let worker = worker(TIED);
    let tokens = prompt(TIED);
    let layers = uneven(&worker, &tokens);
    let decode = |layers: &[LayerKv]| {
        flat(&worker.model().forward(&tokens[60..64], &mut cache_of(&worker, layers, POSITIONS)).unwrap())
    };
    let biased = decode(&layers);
    let zero = decode(&with_bias(&layers, |b| b.zeros_like().unwrap()));
    assert!(distance(&biased, &zero) > 0.05);
    let none: Vec<LayerKv> =
        layers.iter().map(|l| LayerKv::new(l.keys.clone(), l.values.clone(), None).unwrap()).collect();
    assert_close(&decode(&none), &zero, 0.0);
    // One constant on the whole cache of a layer is not nothing either: the new tokens carry none.
    let shifted = decode(&with_bias(&layers, |b| (b.zeros_like().unwrap() + 1.0).unwrap()));
    assert!(distance(&shifted, &zero) > 0.05);
}

/// Padding with a bias of −∞ takes no mass, whatever its keys and values are.
#[test]
fn minus_infinity_takes_no_mass() {
    let worker = worker(GROUPED);
    let tokens = prompt(GROUPED);
    let layers = uneven(&worker, &tokens);
    let pad = |l: &LayerKv| {
        let junk = |t: &Tensor| {
            let junk = Tensor::full(1e3f32, (l.kv_heads(), 4, l.head_dim()), &Device::Cpu).unwrap();
            Tensor::cat(&[&t.clone(), &junk], 1).unwrap()
        };
        let dead = Tensor::full(f32::NEG_INFINITY, (l.kv_heads(), 4), &Device::Cpu).unwrap();
        let bias = Tensor::cat(&[l.bias.as_ref().unwrap(), &dead], 1).unwrap();
        LayerKv::new(junk(&l.keys), junk(&l.values), Some(bias)).unwrap()
    };
    let padded: Vec<LayerKv> = layers.iter().map(pad).collect();
    let (mut plain, mut with_padding) =
        (cache_of(&worker, &layers, POSITIONS), cache_of(&worker, &padded, POSITIONS));
    for part in [&tokens[60..70], &tokens[70..71], &tokens[71..72]] {
        let a = worker.model().forward(part, &mut plain).unwrap();
        let b = worker.model().forward(part, &mut with_padding).unwrap();
        assert_close(&flat(&a), &flat(&b), 1e-5);
    }
    // A head that keeps one slot, all others padding.
    let lonely = with_bias(&padded, |b| {
        let (heads, slots) = b.dims2().unwrap();
        let keep = |i: usize| if i.is_multiple_of(slots) { 0.5 } else { f32::NEG_INFINITY };
        Tensor::from_vec((0..heads * slots).map(keep).collect(), (heads, slots), &Device::Cpu).unwrap()
    });
    let only = |l: &LayerKv| {
        let first = |t: &Tensor| t.narrow(1, 0, 1).unwrap();
        LayerKv::new(first(&l.keys), first(&l.values), l.bias.as_ref().map(first)).unwrap()
    };
    let only: Vec<LayerKv> = lonely.iter().map(only).collect();
    let a = worker.model().forward(&tokens[60..70], &mut cache_of(&worker, &lonely, POSITIONS)).unwrap();
    let b = worker.model().forward(&tokens[60..70], &mut cache_of(&worker, &only, POSITIONS)).unwrap();
    assert_close(&flat(&a), &flat(&b), 1e-5);
}

fn brief(worker: &Worker, tokens: &[u32], keep_ratio: f64) -> (KvCache, Compacted) {
    let mut full = worker.model().new_cache();
    worker.model().forward(&tokens[..POSITIONS], &mut full).unwrap();
    let mut task = full.fork();
    let options = PrefillOptions::default();
    let captured =
        worker.model().prefill_capturing(&tokens[60..70], &mut task, &options, &mut |_, _| {}).unwrap();
    let compacted =
        compact(&full.layers().unwrap(), &captured.queries, &Compaction::keep_ratio(keep_ratio)).unwrap();
    (full, compacted)
}

/// The whole way: trajectory, queries, compaction, briefing, then used, cut back and compacted again.
#[test]
fn a_briefing_is_a_cache_like_any_other() {
    let (worker, naive) = (worker(TIED), NaiveModel::load(&golden(TIED)));
    let model = worker.model();
    let tokens = prompt(TIED);
    let (full, compacted) = brief(&worker, &tokens, 0.3);
    let before = full.layers().unwrap();
    let mut briefing = KvCache::from_compacted(&compacted, full.logical_len(), worker.config()).unwrap();
    assert_eq!((briefing.logical_len(), briefing.slots()), (POSITIONS, compacted.report.kept_len));
    assert!(briefing.bytes() < full.bytes() / 2);

    let layers = briefing.layers().unwrap();
    assert!(layers[0].bias.as_ref().is_some_and(|b| flat(b).iter().any(|b| *b != 0.0)));
    let mut reference = NaiveCache::of(&layers, POSITIONS);
    let logits = model.forward(&tokens[60..70], &mut briefing).unwrap();
    assert_close(&flat(&logits), &naive.read(&tokens[60..70], &mut reference).logits, F32);

    // The biased part and the exact part behind it, as one layer.
    let extended = briefing.layers().unwrap();
    let bias = extended[0].bias.as_ref().unwrap();
    assert_same(
        &bias.narrow(1, layers[0].seq_len(), 10).unwrap(),
        &Tensor::zeros((2, 10), bias.dtype(), &Device::Cpu).unwrap(),
    );
    briefing.truncate(POSITIONS).unwrap();
    assert_same(&model.forward(&tokens[60..70], &mut briefing).unwrap(), &logits);
    let (logical, slots) = (briefing.logical_len(), briefing.slots());
    assert!(matches!(briefing.truncate(POSITIONS - 1), Err(Error::Cache { .. })));
    assert_eq!((briefing.logical_len(), briefing.slots()), (logical, slots));

    let mut asked = briefing.fork();
    let options = PrefillOptions::default();
    let queries =
        model.prefill_capturing(&tokens[70..80], &mut asked, &options, &mut |_, _| {}).unwrap().queries;
    let again = compact(&briefing.layers().unwrap(), &queries, &Compaction::keep_ratio(0.5)).unwrap();
    let mut second = KvCache::from_compacted(&again, logical, worker.config()).unwrap();
    assert_eq!(second.logical_len(), 70);
    assert!(second.slots() < slots);
    model.forward(&tokens[70..80], &mut second).unwrap();

    for (a, b) in before.iter().zip(&full.layers().unwrap()) {
        assert_same(&a.keys, &b.keys);
        assert_same(&a.values, &b.values);
    }
}

/// Keeping everything changes nothing.
#[test]
fn a_full_briefing_answers_like_the_full_cache() {
    let worker = worker(TIED);
    let tokens = prompt(TIED);
    let (mut full, compacted) = brief(&worker, &tokens, 1.0);
    let mut briefing = KvCache::from_compacted(&compacted, POSITIONS, worker.config()).unwrap();
    let (a, b) = (
        worker.model().forward(&tokens[60..70], &mut full).unwrap(),
        worker.model().forward(&tokens[60..70], &mut briefing).unwrap(),
    );
    assert_close(&flat(&a), &flat(&b), 1e-3);
}

#[test]
fn a_briefing_of_another_model_is_refused() {
    let (tied, grouped) = (worker(TIED), worker(GROUPED));
    let (_, mut compacted) = brief(&tied, &prompt(TIED), 0.3);
    let error = KvCache::from_compacted(&compacted, POSITIONS, grouped.config()).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "layers", .. }), "{error}");
    let error = KvCache::from_compacted(&compacted, 3, tied.config()).unwrap_err();
    assert!(matches!(error, Error::Cache { .. }), "{error}");
    let error = KvCache::from_compacted(&compacted, 1025, tied.config()).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { positions: 1025, limit: 1024 }), "{error}");
    compacted.layers.clear();
    let error = KvCache::from_compacted(&compacted, POSITIONS, tied.config()).unwrap_err();
    assert!(matches!(error, Error::Empty { .. }), "{error}");
}
