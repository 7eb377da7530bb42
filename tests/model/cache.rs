//! The cache as a value: decode, chunks, forks, truncation, limits.

use candle_core::{DType, Device};
use lb_am::LayerKv;
use lb_model::{Decoder, Error, KvCache, PrefillOptions};

use crate::support::checkpoints::{Copy, GROUPED, TIED, golden, prompt, worker};
use crate::support::compare::{F32, assert_close, assert_same, distance, flat};
use crate::support::naive_model::{NaiveCache, NaiveModel};

fn assert_same_layers(a: &[LayerKv], b: &[LayerKv]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_same(&a.keys, &b.keys);
        assert_same(&a.values, &b.values);
    }
}

/// Deep copies: what the tensors hold now, whatever is written later.
fn snapshot(cache: &KvCache) -> Vec<LayerKv> {
    let copy = |l: LayerKv| LayerKv::new(l.keys.copy().unwrap(), l.values.copy().unwrap(), l.bias).unwrap();
    cache.layers().unwrap().into_iter().map(copy).collect()
}

#[test]
fn cached_decode_is_one_full_forward() {
    for name in [TIED, GROUPED] {
        let worker = worker(name);
        let tokens = prompt(name);
        let mut all = worker.model().new_cache();
        let full = worker.model().forward_all(&tokens, &mut all).unwrap();
        let mut cache = worker.model().new_cache();
        for (i, &token) in tokens.iter().enumerate() {
            let logits = worker.model().forward(&[token], &mut cache).unwrap();
            assert_close(&flat(&logits), &flat(&full.get(i).unwrap()), F32);
        }
        for (a, b) in all.layers().unwrap().iter().zip(&cache.layers().unwrap()) {
            assert_close(&flat(&a.keys), &flat(&b.keys), F32);
            assert_close(&flat(&a.values), &flat(&b.values), F32);
        }
    }
}

#[test]
fn chunked_prefill_is_one_prefill() {
    let worker = worker(GROUPED);
    let tokens = prompt(GROUPED);
    let mut once = worker.model().new_cache();
    let expected = worker.model().forward(&tokens, &mut once).unwrap();
    for chunk in [1, 7, 64, 512] {
        let mut cache = worker.model().new_cache();
        let mut heard = Vec::new();
        let options = PrefillOptions { chunk };
        let logits = worker
            .model()
            .prefill(&tokens, &mut cache, &options, &mut |done, all| heard.push((done, all)))
            .unwrap();
        assert_close(&flat(&logits), &flat(&expected), F32);
        assert_eq!(cache.logical_len(), tokens.len());
        assert_eq!(heard.len(), tokens.len().div_ceil(chunk));
        assert_eq!(heard.last(), Some(&(tokens.len(), tokens.len())));
        assert_eq!(heard[0].0, chunk.min(tokens.len()));
    }
    let zero = PrefillOptions { chunk: 0 };
    let error = worker.model().prefill(&tokens, &mut once, &zero, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Config { field: "chunk", .. }), "{error}");
}

/// Two branches from one fork decode as if the other did not exist.
#[test]
fn a_fork_and_its_origin_do_not_see_each_other() {
    let worker = worker(TIED);
    let model = worker.model();
    let tokens = prompt(TIED);
    let alone = |tail: &[u32]| {
        let mut cache = model.new_cache();
        model.forward(&tokens[..40], &mut cache).unwrap();
        model.forward(tail, &mut cache).unwrap()
    };
    let (a, b) = (&tokens[40..60], &tokens[60..90]);
    let mut origin = model.new_cache();
    model.forward(&tokens[..40], &mut origin).unwrap();
    let mut fork = origin.fork();
    let from_origin = model.forward(a, &mut origin).unwrap();
    let from_fork = model.forward(b, &mut fork).unwrap();
    assert_close(&flat(&from_origin), &flat(&alone(a)), F32);
    assert_close(&flat(&from_fork), &flat(&alone(b)), F32);
    assert_eq!((origin.logical_len(), fork.logical_len()), (60, 70));
    assert!(distance(&flat(&from_origin), &flat(&from_fork)) > 0.1);
}

/// The origin truncates below what the fork sees and writes other tokens there.
#[test]
fn truncate_and_append_do_not_overwrite_a_fork() {
    let worker = worker(TIED);
    let model = worker.model();
    let tokens = prompt(TIED);
    let mut origin = model.new_cache();
    model.forward(&tokens[..40], &mut origin).unwrap();
    let fork = origin.fork();
    let before = snapshot(&fork);
    origin.truncate(20).unwrap();
    let other = model.forward(&tokens[60..80], &mut origin).unwrap();
    assert_same_layers(&before, &fork.layers().unwrap());
    let mut fresh = model.new_cache();
    model.forward(&tokens[..20], &mut fresh).unwrap();
    let expected = model.forward(&tokens[60..80], &mut fresh).unwrap();
    assert_close(&flat(&other), &flat(&expected), F32);
}

/// Layers that were handed out stay as they were, and so does a fork while its origin outgrows the shared buffer.
#[test]
fn handed_out_layers_stay_valid() {
    let worker = worker(TIED);
    let model = worker.model();
    let tokens = prompt(TIED);
    let mut cache = model.new_cache();
    // 64 slots fill the first buffer exactly, so that a view of all of it is contiguous.
    model.forward(&tokens[..64], &mut cache).unwrap();
    let (before, handed_out, fork) = (snapshot(&cache), cache.layers().unwrap(), cache.fork());
    cache.truncate(10).unwrap();
    model.forward(&tokens[20..90], &mut cache).unwrap();
    for _ in 0..3 {
        model.forward(&tokens, &mut cache).unwrap();
    }
    assert_same_layers(&before, &handed_out);
    assert_same_layers(&before, &fork.layers().unwrap());

    let mut unforked = model.new_cache();
    model.forward(&tokens[..64], &mut unforked).unwrap();
    let handed_out = unforked.layers().unwrap();
    unforked.truncate(0).unwrap();
    model.forward(&tokens[20..84], &mut unforked).unwrap();
    assert_same_layers(&before, &handed_out);
}

#[test]
fn truncate_goes_back_in_time() {
    let worker = worker(GROUPED);
    let model = worker.model();
    let tokens = prompt(GROUPED);
    let mut cache = model.new_cache();
    model.forward(&tokens[..50], &mut cache).unwrap();
    let kept = snapshot(&cache);
    let expected = model.forward(&tokens[50..55], &mut cache).unwrap();
    model.forward(&tokens[10..80], &mut cache).unwrap();
    cache.truncate(50).unwrap();
    assert_eq!((cache.logical_len(), cache.slots(), cache.slot_count(1)), (50, 50, 50));
    assert_same_layers(&kept, &cache.layers().unwrap());
    assert_same(&model.forward(&tokens[50..55], &mut cache).unwrap(), &expected);

    // Through frozen chunks: a fork's fork, cut inside the first part.
    let mut fork = cache.fork();
    model.forward(&tokens[..9], &mut fork).unwrap();
    let mut second = fork.fork();
    model.forward(&tokens[..3], &mut second).unwrap();
    second.truncate(30).unwrap();
    let expected: Vec<LayerKv> = cache.layers_range(0, 30).unwrap();
    assert_same_layers(&expected, &second.layers().unwrap());
    assert!(matches!(second.truncate(31), Err(Error::Cache { .. })));
    second.truncate(0).unwrap();
    assert!(second.is_empty());
    assert!(matches!(second.layers(), Err(Error::Empty { .. })));
}

fn cache_of_prefix(model: &Decoder, tokens: &[u32]) -> KvCache {
    let mut cache = model.new_cache();
    model.forward(tokens, &mut cache).unwrap();
    cache
}

#[test]
fn a_range_of_slots_put_behind_another_cache_decodes_the_same() {
    let worker = worker(TIED);
    let model = worker.model();
    let tokens = prompt(TIED);
    let mut cache = model.new_cache();
    model.forward(&tokens[..60], &mut cache).unwrap();
    let mut rebuilt = model.new_cache();
    rebuilt.append_layers(&cache.layers_range(0, 35).unwrap(), 35).unwrap();
    rebuilt.append_layers(&cache.layers_range(35, 60).unwrap(), 25).unwrap();
    assert_eq!((rebuilt.logical_len(), rebuilt.bytes()), (60, cache.bytes()));
    assert_same_layers(&cache.layers().unwrap(), &rebuilt.layers().unwrap());
    let (a, b) = (model.forward(&tokens[60..], &mut cache), model.forward(&tokens[60..], &mut rebuilt));
    assert_close(&flat(&a.unwrap()), &flat(&b.unwrap()), F32);
    // Behind tokens that the cache read itself.
    let mut mixed = model.new_cache();
    model.forward(&tokens[..20], &mut mixed).unwrap();
    mixed.append_layers(&cache.layers_range(20, 60).unwrap(), 40).unwrap();
    assert_eq!((mixed.logical_len(), mixed.slots()), (60, 60));
    let expected = model.forward(&tokens[60..], &mut cache_of_prefix(model, &tokens[..60])).unwrap();
    assert_close(&flat(&model.forward(&tokens[60..], &mut mixed).unwrap()), &flat(&expected), F32);
    // 3 layers, 2 heads, keys and values of 16 f32 at 90 positions.
    assert_eq!(cache.bytes(), 3 * 2 * 2 * 16 * 4 * 90);
    assert!(matches!(cache.layers_range(80, 91), Err(Error::Cache { .. })));
    assert!(matches!(cache.layers_range(5, 5), Err(Error::Empty { .. })));
    assert!(matches!(cache.layer(3), Err(Error::Cache { .. })));
}

/// A refused call leaves the cache exactly as it was.
#[test]
fn refused_input_changes_nothing() {
    let copy = Copy::of(TIED);
    copy.edit_json("config.json", |c| c["max_position_embeddings"] = 64.into());
    let worker = copy.load();
    let model = worker.model();
    let tokens = prompt(TIED);
    let mut cache = model.new_cache();
    model.forward(&tokens[..60], &mut cache).unwrap();
    let before = snapshot(&cache);
    let layers = cache.layers_range(0, 5).unwrap();
    let overflow =
        |e: Error| assert!(matches!(e, Error::ContextOverflow { positions: 65, limit: 64 }), "{e}");
    overflow(model.forward(&tokens[60..65], &mut cache).unwrap_err());
    let options = PrefillOptions { chunk: 2 };
    overflow(model.prefill(&tokens[60..65], &mut cache, &options, &mut |_, _| {}).unwrap_err());
    overflow(cache.append_layers(&layers, 5).unwrap_err());
    assert!(matches!(model.forward(&[], &mut cache), Err(Error::Empty { arg: "tokens" })));
    let unknown = model.forward(&[1, 320], &mut cache).unwrap_err();
    assert!(matches!(unknown, Error::TokenRange { id: 320, vocab_size: 320 }), "{unknown}");
    assert!(matches!(cache.append_layers(&layers[..2], 5), Err(Error::Shape { .. })));
    assert!(matches!(cache.append_layers(&layers, 4), Err(Error::Cache { .. })));
    assert!(matches!(cache.append_layers(&layers, 0), Err(Error::Empty { .. })));
    let three = cache.layers_range(0, 3).unwrap();
    let half: Vec<LayerKv> = three
        .iter()
        .map(|l| {
            LayerKv::new(l.keys.to_dtype(DType::F16).unwrap(), l.values.to_dtype(DType::F16).unwrap(), None)
        })
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(matches!(cache.append_layers(&half, 3), Err(Error::Cache { .. })));
    // Compacted for logits of another scale.
    let scaled: Vec<LayerKv> = three.iter().map(|l| l.clone().with_scale(0.9)).collect();
    let error = cache.append_layers(&scaled, 3).unwrap_err();
    assert!(matches!(error, Error::Cache { .. }) && error.to_string().contains("scale"), "{error}");
    assert_eq!(cache.logical_len(), 60);
    assert_same_layers(&before, &cache.layers().unwrap());
    model.forward(&tokens[60..64], &mut cache).unwrap();
}

#[test]
fn a_cache_of_another_model_is_refused() {
    let (tied, grouped) = (worker(TIED), worker(GROUPED));
    let mut cache = grouped.model().new_cache();
    let error = tied.model().forward(&[1], &mut cache).unwrap_err();
    assert!(matches!(error, Error::Cache { .. }), "{error}");
}

/// A narrow cache under a wide model: what attention reads is exactly what is stored.
#[test]
fn a_narrow_cache_is_read_as_stored() {
    let (worker, naive) = (worker(TIED), NaiveModel::load(&golden(TIED)));
    let tokens = prompt(TIED);
    for dtype in [DType::BF16, DType::F16] {
        let mut cache = KvCache::new(worker.config(), dtype, &Device::Cpu);
        worker.model().forward(&tokens[..80], &mut cache).unwrap();
        let layers = cache.layers().unwrap();
        assert_eq!(layers[0].keys.dtype(), dtype);
        assert_eq!(cache.bytes(), 3 * 2 * 2 * 16 * 2 * 80);
        let mut reference = NaiveCache::of(&layers, 80);
        let logits = worker.model().forward(&tokens[80..81], &mut cache).unwrap();
        // The new token's own key and value are rounded too, which the reference does not do.
        let expected = naive.step(tokens[80], &mut reference).logits;
        assert_close(&flat(&logits), &expected, 0.1);
    }
}
