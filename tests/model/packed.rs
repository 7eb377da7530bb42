//! Caches in 8, 4 and 2 bits.

use std::fs;

use candle_core::{DType, Device};
use lb_am::{Compacted, Compaction, Compactor, LayerKv, PackedBits, Selection};
use lb_model::{Error, KvCache, Worker};
use tempfile::TempDir;

use crate::support::checkpoints::{GROUPED, TIED, prompt, worker};
use crate::support::compare::{assert_close, assert_same, distance, flat};

const POSITIONS: usize = 60;

/// Sums in another order, and keys unpacked once or tile by tile, on logits of about ±20.
const ORDER: f64 = 1e-4;

fn full(worker: &Worker, tokens: &[u32]) -> KvCache {
    let mut full = worker.model().new_cache();
    worker.model().forward(&tokens[..POSITIONS], &mut full).unwrap();
    full
}

/// Heads that keep different counts, in few bits.
fn briefed(worker: &Worker, tokens: &[u32], bits: Option<PackedBits>) -> Compacted {
    let full = full(worker, tokens);
    let options = lb_model::PrefillOptions::default();
    let captured = worker
        .model()
        .prefill_capturing(&tokens[60..70], &mut full.fork(), &options, &mut |_, _| {})
        .unwrap();
    let config = Compaction::keep_ratio(0.6).with_selection(Selection::per_head());
    Compactor::new(&full.layers().unwrap(), &captured.queries, &config).packed(bits).run().unwrap()
}

/// The same slots unpacked, as a cache of their own.
fn unpacked(worker: &Worker, cache: &KvCache) -> KvCache {
    let layers: Vec<LayerKv> = cache.layers().unwrap();
    let mut plain = worker.model().new_cache();
    plain.append_layers(&layers, cache.logical_len()).unwrap();
    plain
}

/// The same logits from both, for a task, a token and several.
#[track_caller]
fn answer_alike(worker: &Worker, a: &KvCache, b: &KvCache, tokens: &[u32], tolerance: f64) {
    let (mut a, mut b) = (a.fork(), b.fork());
    for part in [&tokens[60..70], &tokens[70..71], &tokens[71..72], &tokens[72..76]] {
        let a = flat(&worker.model().forward(part, &mut a).unwrap());
        assert_close(&a, &flat(&worker.model().forward(part, &mut b).unwrap()), tolerance);
    }
}

/// Attention unpacks tile by tile what is handed out as a whole, and each bit less is further from the cache itself.
#[test]
fn a_packed_cache_answers_as_what_it_unpacks_to() {
    for name in [TIED, GROUPED] {
        let (worker, tokens) = (worker(name), prompt(name));
        let full = full(&worker, &tokens);
        let logits =
            |cache: &KvCache| flat(&worker.model().forward(&tokens[60..64], &mut cache.fork()).unwrap());
        let mut before = 0.0;
        for bits in [PackedBits::Eight, PackedBits::Four, PackedBits::Two] {
            let packed = full.packed(bits).unwrap();
            assert_eq!((packed.logical_len(), packed.slots()), (POSITIONS, POSITIONS));
            answer_alike(&worker, &packed, &unpacked(&worker, &packed), &tokens, ORDER);
            let off = distance(&logits(&packed), &logits(&full));
            assert!(off > before, "{name} {bits:?}: {off}");
            before = off;
        }
        let eight = full.packed(PackedBits::Eight).unwrap();
        assert!(distance(&logits(&eight), &logits(&full)) < 0.5, "8 bits are near");
    }
}

/// Codes, grids of keys for each 32 slots, and of values for each slot.
#[test]
fn bytes_are_those_that_are_stored() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let (full, config) = (full(&worker, &tokens), worker.config());
    let (heads, width) = (config.num_hidden_layers * config.num_key_value_heads, config.head_dim);
    assert_eq!(full.bytes(), heads * POSITIONS * width * 2 * 4);
    for bits in PackedBits::ALL {
        let mut packed = full.packed(bits).unwrap();
        let codes = 2 * POSITIONS * width * bits.count() / 8;
        let grids = 2 * (width * 4) + POSITIONS * 4;
        assert_eq!(packed.bytes(), heads * (codes + grids), "{bits:?}");
        worker.model().forward(&tokens[60..64], &mut packed).unwrap();
        assert_eq!(packed.bytes(), heads * (codes + grids + 4 * width * 2 * 4), "the tail is not packed");
        packed.truncate(20).unwrap();
        let cut = 2 * 20 * width * bits.count() / 8 + width * 4 + 20 * 4;
        assert_eq!(packed.bytes(), heads * cut);
    }
}

#[test]
fn forks_and_cuts_are_those_of_any_cache() {
    let (worker, tokens) = (worker(GROUPED), prompt(GROUPED));
    let full = full(&worker, &tokens);
    let packed = full.packed(PackedBits::Four).unwrap();
    let mut fork = packed.fork();
    let first = worker.model().forward(&tokens[60..70], &mut fork).unwrap();
    assert_same(&first, &worker.model().forward(&tokens[60..70], &mut packed.fork()).unwrap());
    fork.truncate(POSITIONS).unwrap();
    assert_same(&first, &worker.model().forward(&tokens[60..70], &mut fork).unwrap());
    // Inside a group of slots.
    for len in [41, 32, 7] {
        let mut cut = packed.fork();
        cut.truncate(len).unwrap();
        let mut plain = unpacked(&worker, &packed);
        plain.truncate(len).unwrap();
        assert_eq!((cut.logical_len(), cut.slots()), (len, len));
        answer_alike(&worker, &cut, &plain, &tokens, ORDER);
    }
    // What was compacted cannot be cut, packed or not.
    let compacted = briefed(&worker, &tokens, Some(PackedBits::Four));
    let mut briefing = KvCache::from_compacted(&compacted, POSITIONS, worker.config()).unwrap();
    assert!(matches!(briefing.truncate(POSITIONS - 1), Err(Error::Cache { .. })));
    // The session's cache is as it was.
    assert_eq!(full.bytes(), full.fork().bytes());
    assert!(matches!(packed.packed(PackedBits::Eight), Err(Error::Cache { .. })), "packed twice");
}

/// Slots that are picked, and layers that are appended, are in the cache's dtype; batches share a packed prefix.
#[test]
fn packed_slots_are_picked_appended_to_and_shared() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let packed = full(&worker, &tokens).packed(PackedBits::Eight).unwrap();
    let slots: Vec<u32> = (0..POSITIONS as u32).step_by(3).collect();
    let (picked, plain) = (packed.pick(&slots).unwrap(), unpacked(&worker, &packed).pick(&slots).unwrap());
    assert_eq!(picked.bytes(), plain.bytes());
    answer_alike(&worker, &picked, &plain, &tokens, ORDER);

    let mut task = packed.fork();
    worker.model().forward(&tokens[60..66], &mut task).unwrap();
    let behind = task.layers_range(POSITIONS, POSITIONS + 6).unwrap();
    let mut appended = packed.fork();
    appended.append_layers(&behind, 6).unwrap();
    let mut next = [task.fork(), appended, packed.fork()];
    let [a, b] =
        [0, 1].map(|index| worker.model().forward(&tokens[66..70], &mut next[index].fork()).unwrap());
    assert_close(&flat(&a), &flat(&b), ORDER);

    let alone = next.each_ref().map(|cache| worker.model().forward(&[7], &mut cache.fork()).unwrap());
    let together = worker.model().forward_batch(&[vec![7], vec![7], vec![7]], &mut next).unwrap();
    for (alone, together) in alone.iter().zip(&together) {
        assert_close(&flat(alone), &flat(together), ORDER);
    }
}

/// Heads keep different counts: each its own slots, packed, and no padding.
#[test]
fn uneven_heads_are_packed() {
    for name in [TIED, GROUPED] {
        let (worker, tokens) = (worker(name), prompt(name));
        for bits in PackedBits::ALL {
            let compacted = briefed(&worker, &tokens, Some(bits));
            assert!(compacted.layers.iter().any(|layer| layer.kept.is_ragged()));
            let cache = KvCache::from_compacted(&compacted, POSITIONS, worker.config()).unwrap();
            let packed = compacted.layers.iter().map(|layer| layer.packed.as_ref().unwrap().bytes());
            let slots: usize = compacted
                .layers
                .iter()
                .map(|layer| layer.kept.total(worker.config().num_key_value_heads))
                .sum();
            assert_eq!(cache.bytes(), packed.sum::<usize>() + 4 * slots);
            answer_alike(&worker, &cache, &unpacked(&worker, &cache), &tokens, ORDER);
            // Compacted layers whose tensors are packed only now lose the same, but for values that were not fitted to it.
            let plain = briefed(&worker, &tokens, None);
            let plain = KvCache::from_compacted(&plain, POSITIONS, worker.config()).unwrap();
            assert_eq!(plain.packed(bits).unwrap().bytes(), cache.bytes());
        }
    }
}

/// Slots of bf16 are packed as they are, and what is read behind them stays in bf16: more tokens at once than are computed
/// exactly where all of a cache is in bf16, over a tail that is.
#[test]
fn a_cache_in_bf16_is_packed() {
    // What tensors hand out is rounded to bf16, what attention unpacks is not.
    const ROUNDED: f64 = 0.2;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("packed.safetensors");
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let mut full = KvCache::new(worker.config(), DType::BF16, &Device::Cpu);
    worker.model().forward(&tokens[..20], &mut full).unwrap();
    let packed = full.packed(PackedBits::Eight).unwrap();
    assert!(packed.bytes() < full.bytes());
    let layers = packed.layers().unwrap();
    assert!(layers.iter().all(|layer| layer.dtype() == DType::BF16));
    let mut plain = KvCache::new(worker.config(), DType::BF16, &Device::Cpu);
    plain.append_layers(&layers, 20).unwrap();
    packed.save(&path).unwrap();
    let loaded = KvCache::load(&path, worker.config(), &Device::Cpu).unwrap();
    assert_eq!((loaded.dtype(), loaded.bytes()), (DType::BF16, packed.bytes()));
    for part in [&tokens[20..75], &tokens[20..24], &tokens[20..21]] {
        let read = |cache: &KvCache| worker.model().forward(part, &mut cache.fork()).unwrap();
        assert_close(&flat(&read(&packed)), &flat(&read(&plain)), ROUNDED);
        assert_same(&read(&packed), &read(&loaded));
    }
}

#[test]
fn a_layer_that_contradicts_its_packed_slots_is_refused() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let good = briefed(&worker, &tokens, Some(PackedBits::Eight));
    let refused = |change: &dyn Fn(&mut Compacted)| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = KvCache::from_compacted(&bad, POSITIONS, worker.config()).unwrap_err();
        assert!(matches!(error, Error::Cache { .. }), "{error}");
    };
    refused(&|bad| bad.layers[0].packed = bad.layers[1].packed.clone());
    refused(&|bad| {
        let other = bad.layers[1].packed.as_ref().unwrap().values.clone();
        bad.layers[2].packed.as_mut().unwrap().values = other;
    });
}

#[test]
fn a_saved_packed_cache_decodes_identically() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("packed.safetensors");
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let briefing = |bits| {
        KvCache::from_compacted(&briefed(&worker, &tokens, Some(bits)), POSITIONS, worker.config()).unwrap()
    };
    for bits in PackedBits::ALL {
        let mut cut = full(&worker, &tokens).packed(bits).unwrap();
        cut.truncate(POSITIONS - 3).unwrap();
        for cache in [full(&worker, &tokens).packed(bits).unwrap(), briefing(bits), cut] {
            let mut behind = cache.fork();
            worker.model().forward(&tokens[60..64], &mut behind).unwrap();
            for mut cache in [cache, behind] {
                cache.save(&path).unwrap();
                let mut loaded = KvCache::load(&path, worker.config(), &Device::Cpu).unwrap();
                assert_eq!(
                    (loaded.logical_len(), loaded.bytes(), loaded.dtype()),
                    (cache.logical_len(), cache.bytes(), DType::F32)
                );
                for part in [&tokens[64..70], &tokens[70..71]] {
                    let a = worker.model().forward(part, &mut cache).unwrap();
                    assert_same(&a, &worker.model().forward(part, &mut loaded).unwrap());
                }
            }
        }
    }
}

/// A header that promises other bits than the tensors have, and a grid that is not finite.
#[test]
fn a_spoilt_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("packed.safetensors");
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    full(&worker, &tokens).packed(PackedBits::Eight).unwrap().save(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let at = |bytes: &[u8], part: &str| {
        bytes.windows(part.len()).position(|window| window == part.as_bytes()).expect(part)
    };
    let load = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        KvCache::load(&path, worker.config(), &Device::Cpu)
    };
    assert!(load(&good).is_ok());
    for (bits, of) in [("4", "TensorShape"), ("3", "Corrupt")] {
        let mut bad = good.clone();
        let digit = at(&bad, r#"\"bits\":8"#) + r#"\"bits\":"#.len();
        bad[digit] = bits.as_bytes()[0];
        let error = load(&bad).unwrap_err();
        assert!(format!("{error:?}").starts_with(of), "{bits}: {error:?}");
    }
    let mut torn = good.clone();
    torn.truncate(good.len() - 5);
    assert!(matches!(load(&torn), Err(Error::Corrupt { .. })));
    // The largest f16 exponent somewhere in every grid.
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize + 8;
    let mut infinite = good.clone();
    infinite[header..].fill(0xFC);
    assert!(matches!(load(&infinite), Err(Error::NonFinite { .. })));
}
