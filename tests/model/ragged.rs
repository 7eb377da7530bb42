//! Heads that keep different counts: the same numbers as with padding, without its cost.

use candle_core::{Device, Tensor};
use lb_am::{
    Compacted, Compaction, Compactor, Kept, LayerKv, ScoreAgg, Selection, Sharing, compact, compact_at,
};
use lb_model::{KvCache, PrefillOptions, Worker};
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::support::checkpoints::{GROUPED, TIED, golden, prompt, worker};
use crate::support::compare::{F32, assert_close, assert_same, flat};
use crate::support::naive_model::{NaiveCache, NaiveModel};

const POSITIONS: usize = 60;

/// Random slots for each head: `counts[layer][head]`.
fn compacted(worker: &Worker, tokens: &[u32], counts: &[Vec<usize>], seed: u64) -> Compacted {
    let mut full = worker.model().new_cache();
    worker.model().forward(&tokens[..POSITIONS], &mut full).unwrap();
    let options = PrefillOptions::default();
    let mut task = full.fork();
    let queries = worker.model().prefill_capturing(&tokens[60..70], &mut task, &options, &mut |_, _| {});
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pick = |count: usize| {
        let mut slots: Vec<u32> = sample(&mut rng, POSITIONS, count).iter().map(|slot| slot as u32).collect();
        slots.sort_unstable();
        slots
    };
    let kept: Vec<Kept> =
        counts.iter().map(|heads| Kept::per_head(heads.iter().map(|count| pick(*count)).collect())).collect();
    let config = Compaction::default().with_selection(Selection::per_head());
    compact_at(&full.layers().unwrap(), &queries.unwrap().queries, &kept, &config).unwrap()
}

/// The same slots with the padding left in.
fn padded(worker: &Worker, compacted: &Compacted) -> KvCache {
    let layers: Vec<LayerKv> = compacted.layers.iter().map(|layer| layer.to_layer().unwrap()).collect();
    let mut cache = worker.model().new_cache();
    cache.append_layers(&layers, POSITIONS).unwrap();
    cache
}

fn ragged(worker: &Worker, compacted: &Compacted) -> KvCache {
    KvCache::from_compacted(compacted, POSITIONS, worker.config()).unwrap()
}

/// Counts of both kinds of unevenness for a model's heads: a few random ones, and one slot beside nearly all.
fn cases(worker: &Worker) -> Vec<Vec<Vec<usize>>> {
    let (layers, heads) = (worker.config().num_hidden_layers, worker.config().num_key_value_heads);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut cases: Vec<Vec<Vec<usize>>> = (0..3)
        .map(|_| (0..layers).map(|_| (0..heads).map(|_| rng.random_range(1..POSITIONS)).collect()).collect())
        .collect();
    let uneven =
        |layer: usize| (0..heads).map(move |head| if (head + layer).is_multiple_of(2) { 1 } else { 59 });
    cases.push((0..layers).map(|layer| uneven(layer).collect()).collect());
    // Only one layer is ragged; the others are even, at other lengths.
    cases.push(
        (0..layers)
            .map(|layer| (0..heads).map(|h| 9 + 4 * layer + h * usize::from(layer == 0)).collect())
            .collect(),
    );
    cases
}

/// Another order of summation, relative to the largest logit.
const ORDER: f64 = 3e-6;

/// Prefill, decode and fork: ragged, padded and brute force agree.
#[test]
fn ragged_heads_attend_like_padded_ones() {
    for name in [TIED, GROUPED] {
        let (worker, naive, tokens) = (worker(name), NaiveModel::load(&golden(name)), prompt(name));
        for (seed, counts) in cases(&worker).into_iter().enumerate() {
            let compacted = compacted(&worker, &tokens, &counts, seed as u64);
            let (mut ragged, mut padded) = (ragged(&worker, &compacted), padded(&worker, &compacted));
            let mut reference = NaiveCache::of(&padded.layers().unwrap(), POSITIONS);
            for part in [&tokens[60..70], &tokens[70..71], &tokens[71..72], &tokens[72..76]] {
                let a = flat(&worker.model().forward(part, &mut ragged).unwrap());
                let b = flat(&worker.model().forward(part, &mut padded).unwrap());
                let scale = b.iter().fold(1.0, |max: f64, b| max.max(b.abs()));
                assert_close(&a, &b, ORDER * scale);
                assert_close(&a, &naive.read(part, &mut reference).logits, F32);
            }
            let mut fork = ragged.fork();
            let a = worker.model().forward(&tokens[76..80], &mut fork).unwrap();
            assert_same(&a, &worker.model().forward(&tokens[76..80], &mut ragged).unwrap());
            ragged.truncate(POSITIONS).unwrap();
            assert!(ragged.truncate(POSITIONS - 1).is_err());
        }
    }
}

#[test]
fn only_live_rows_are_counted() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let counts = vec![vec![1, 59], vec![20, 21], vec![30, 30]];
    let compacted = compacted(&worker, &tokens, &counts, 3);
    let cache = ragged(&worker, &compacted);
    assert_eq!((cache.slot_count(0), cache.slot_count(1), cache.slots()), (59, 21, 59));
    assert_eq!(cache.mean_slots(), 161usize.div_ceil(6));
    let row = 2 * worker.config().head_dim * cache.dtype().size_in_bytes() + 4;
    assert_eq!(cache.bytes(), 161 * row);
    assert_eq!(padded(&worker, &compacted).bytes(), 220 * row);
    let mut extended = cache.fork();
    worker.model().forward(&tokens[60..64], &mut extended).unwrap();
    assert_eq!(extended.mean_slots(), cache.mean_slots() + 4);
}

/// Handed out for another compaction, a layer is what the first compaction made.
#[test]
fn a_ragged_cache_is_compacted_again() {
    let (worker, tokens) = (worker(GROUPED), prompt(GROUPED));
    let counts = cases(&worker).swap_remove(3);
    let first = compacted(&worker, &tokens, &counts, 4);
    let (mut ragged, mut padded) = (ragged(&worker, &first), padded(&worker, &first));
    for (a, b) in ragged.layers().unwrap().iter().zip(&first.layers) {
        assert_same(&a.keys, &b.keys);
        assert_same(a.bias.as_ref().unwrap(), &b.bias);
        let live = (b.bias.ge(f32::MIN).unwrap()).to_dtype(b.values.dtype()).unwrap().unsqueeze(2).unwrap();
        assert_same(&a.values, &b.values.broadcast_mul(&live).unwrap());
    }
    worker.model().forward(&tokens[60..66], &mut ragged).unwrap();
    worker.model().forward(&tokens[60..66], &mut padded).unwrap();
    let options = PrefillOptions::default();
    let mut asked = ragged.fork();
    let queries = worker
        .model()
        .prefill_capturing(&tokens[66..76], &mut asked, &options, &mut |_, _| {})
        .unwrap()
        .queries;
    let config = Compaction::keep_ratio(0.5).with_selection(Selection::per_head());
    let [mut a, mut b] = [&ragged, &padded].map(|cache| {
        let again = compact(&cache.layers().unwrap(), &queries, &config).unwrap();
        KvCache::from_compacted(&again, cache.logical_len(), worker.config()).unwrap()
    });
    let [a, b] = [&mut a, &mut b].map(|cache| flat(&worker.model().forward(&tokens[66..70], cache).unwrap()));
    assert_close(&a, &b, 1e-3);
}

#[test]
fn a_saved_ragged_briefing_decodes_identically_and_holds_no_padding() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ragged.safetensors");
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let compacted = compacted(&worker, &tokens, &[vec![1, 59], vec![20, 21], vec![30, 30]], 3);
    let mut cache = ragged(&worker, &compacted);
    worker.model().forward(&tokens[60..64], &mut cache).unwrap();
    cache.save(&path).unwrap();
    let mut loaded = KvCache::load(&path, worker.config(), &Device::Cpu).unwrap();
    assert_eq!((loaded.mean_slots(), loaded.bytes()), (cache.mean_slots(), cache.bytes()));
    let stored = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let rows: usize = stored.values().map(Tensor::elem_count).sum();
    assert_eq!(rows * 4, cache.bytes());
    for part in [&tokens[64..70], &tokens[70..71]] {
        let a = worker.model().forward(part, &mut cache).unwrap();
        assert_same(&a, &worker.model().forward(part, &mut loaded).unwrap());
    }
}

/// A selection that keeps the same count in every head is stored as it is.
#[test]
fn equal_counts_are_shared_not_copied() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let mut full = worker.model().new_cache();
    worker.model().forward(&tokens[..POSITIONS], &mut full).unwrap();
    let mut task = full.fork();
    let options = PrefillOptions::default();
    let queries = worker
        .model()
        .prefill_capturing(&tokens[60..70], &mut task, &options, &mut |_, _| {})
        .unwrap()
        .queries;
    let config = Compaction::keep_ratio(0.3).with_sharing(Sharing::Equal);
    let compacted = Compactor::new(&full.layers().unwrap(), &queries, &config).run().unwrap();
    let (a, b) = (ragged(&worker, &compacted), padded(&worker, &compacted));
    assert_eq!((a.bytes(), a.slots(), a.mean_slots()), (b.bytes(), b.slots(), b.slots()));
    let mut forks = [a, b];
    let [a, b] = forks.each_mut().map(|cache| worker.model().forward(&tokens[60..64], cache).unwrap());
    assert_same(&a, &b);
}

/// A cache of even heads is noted, one of uneven heads is not, and a compaction makes a pass of its own then.
#[test]
fn what_uneven_heads_show_is_not_noted() {
    let (worker, tokens) = (worker(GROUPED), prompt(GROUPED));
    let heads = worker.config().num_key_value_heads;
    let counts = |of: &dyn Fn(usize) -> usize| -> Vec<Vec<usize>> {
        vec![(0..heads).map(of).collect(); worker.config().num_hidden_layers]
    };
    for (counts, noted) in [(counts(&|_| 20), true), (counts(&|head| 5 + 9 * head), false)] {
        let cache = ragged(&worker, &compacted(&worker, &tokens, &counts, 3));
        let observing =
            worker.model().forward_observing(&tokens[60..70], &mut cache.fork(), ScoreAgg::Mean).unwrap();
        assert_eq!(observing.observed.is_some(), noted);
        let (layers, config) = (cache.layers().unwrap(), Compaction::kept_len(8).with_score(ScoreAgg::Mean));
        let compactor = Compactor::new(&layers, &observing.captured.queries, &config);
        let compactor = match &observing.observed {
            Some(observed) => compactor.observed(observed),
            None => compactor,
        };
        assert_eq!(compactor.run().unwrap().layers.len(), layers.len());
    }
}
