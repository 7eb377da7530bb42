//! Caches, compactions and sessions of a model whose layers have windows.

use candle_core::{DType, Device, Tensor};
use latent_briefing::prelude::*;
use latent_briefing::session::{CompactOldest, RoomPolicy};
use lb_am::{CompactedLayer, Compaction, Compactor, Kept, LayerKv, PackedBits, Sharing, compact};
use lb_model::{Captured, Error, KvCache, PrefillOptions};

use super::{CLOSE, GOLDENS, TRAJECTORY, WINDOW, decode, load, local_layers, read};
use crate::support::assert_error;
use crate::support::checkpoints::prompt;
use crate::support::compare::{assert_close, assert_same, distance, flat};

/// A trajectory's cache, and what the tokens behind it ask.
fn scene(worker: &Worker, name: &str) -> (KvCache, Captured, Vec<u32>) {
    let tokens = prompt(name);
    let full = read(worker, &tokens[..TRAJECTORY]);
    let task = &tokens[TRAJECTORY..TRAJECTORY + 12];
    let options = PrefillOptions::default();
    let captured =
        worker.model().prefill_capturing(task, &mut full.fork(), &options, &mut |_, _| {}).unwrap();
    (full, captured, tokens[TRAJECTORY..].to_vec())
}

fn compacted(worker: &Worker, full: &KvCache, queries: &[Tensor], ratio: f64) -> Vec<CompactedLayer> {
    let config = worker.config();
    let layers = config.of_global_layers(full.layers().unwrap());
    let queries = config.of_global_layers(queries.to_vec());
    // Equal counts, so that slots can be counted.
    let config = Compaction::keep_ratio(ratio).with_sharing(Sharing::Equal);
    compact(&layers, &queries, &config).unwrap().layers
}

fn briefing(worker: &Worker, full: &KvCache, queries: &[Tensor], ratio: f64) -> KvCache {
    let global = compacted(worker, full, queries, ratio);
    let layers = full.with_windows(global, &(0..TRAJECTORY), 0).unwrap();
    let mut cache = worker.model().new_cache();
    cache.append_compacted(&layers, TRAJECTORY).unwrap();
    cache
}

/// A whole cache in few bits is reached as far as its windows go, and what a briefing leaves of them is not packed.
#[test]
fn packed_slots_lie_in_windows_and_beside_them() {
    for name in GOLDENS {
        let worker = load(name);
        let (full, captured, behind) = scene(&worker, name);
        let packed = full.packed(PackedBits::Four).unwrap();
        let mut plain = worker.model().new_cache();
        plain.append_layers(&packed.layers().unwrap(), TRAJECTORY).unwrap();
        let decoded = [&packed, &plain].map(|cache| decode(&worker, cache, &behind).concat());
        assert_close(&decoded[0], &decoded[1], CLOSE);
        let read = |cache: &KvCache| flat(&worker.model().forward(&behind[..11], &mut cache.fork()).unwrap());
        assert_close(&read(&packed), &read(&plain), CLOSE);

        let (model, config) = (worker.config(), Compaction::keep_ratio(0.3));
        let layers = model.of_global_layers(full.layers().unwrap());
        let queries = model.of_global_layers(captured.queries);
        let compact = |bits| {
            let compacted = Compactor::new(&layers, &queries, &config).packed(bits).run().unwrap().layers;
            let layers = full.with_windows(compacted, &(0..TRAJECTORY), 0).unwrap();
            let mut cache = worker.model().new_cache();
            cache.append_compacted(&layers, TRAJECTORY).unwrap();
            cache
        };
        let (small, wide) = (compact(Some(PackedBits::Four)), compact(None));
        assert!(small.bytes() < wide.bytes());
        for layer in local_layers(&worker) {
            assert_same(&small.layer(layer).unwrap().keys, &wide.layer(layer).unwrap().keys);
        }
        let mut plain = worker.model().new_cache();
        let layers = (0..small.num_layers()).map(|layer| small.layer(layer).unwrap());
        let kept = |layer: LayerKv| {
            let last = (TRAJECTORY - layer.seq_len()) as u32..TRAJECTORY as u32;
            let bias = layer.bias.clone().unwrap_or_else(|| {
                Tensor::zeros((layer.kv_heads(), layer.seq_len()), DType::F32, &Device::Cpu).unwrap()
            });
            let LayerKv { keys, values, scale, .. } = layer;
            CompactedLayer { keys, values, bias, kept: Kept::shared(last.collect()), scale, packed: None }
        };
        plain.append_compacted(&layers.map(kept).collect::<Vec<_>>(), TRAJECTORY).unwrap();
        assert_close(&read(&small), &read(&plain), CLOSE);
    }
}

#[test]
fn compactions_leave_windows_what_they_reach() {
    for name in GOLDENS {
        let worker = load(name);
        let (full, captured, behind) = scene(&worker, name);
        let wanted = decode(&worker, &full, &behind);
        let whole = briefing(&worker, &full, &captured.queries, 1.0);
        for (got, wanted) in decode(&worker, &whole, &behind).iter().zip(&wanted) {
            assert_close(got, wanted, CLOSE);
        }
        let small = briefing(&worker, &full, &captured.queries, 0.2);
        assert_eq!((small.logical_len(), small.slots()), (TRAJECTORY, TRAJECTORY / 5));
        let layers = worker.config().num_hidden_layers;
        let locals = local_layers(&worker);
        assert!(!locals.is_empty() && locals.len() < layers);
        for &layer in &locals {
            for cache in [&whole, &small] {
                assert_eq!(cache.slot_count(layer), WINDOW - 1);
                let (kept, all) = (cache.layer(layer).unwrap(), full.layer_range(layer, 53, 60).unwrap());
                assert_same(&kept.keys, &all.keys);
                assert_same(&kept.values, &all.values);
            }
        }
        let rows = decode(&worker, &small, &behind);
        assert!(rows.iter().flatten().all(|logit| logit.is_finite()));
        assert!(distance(&rows[0], &wanted[0]) > CLOSE, "a fifth is not everything");
        // Nothing that tokens behind see is missing: with the windows' layers whole, the answers are the same.
        let mut more = compacted(&worker, &full, &captured.queries, 0.2).into_iter();
        let mut mixed = full.layers().unwrap();
        let global = |layer: &usize| worker.config().window(*layer).is_none();
        for layer in (0..layers).filter(global) {
            mixed[layer] = more.next().unwrap().to_layer().unwrap();
        }
        let mut with_all = worker.model().new_cache();
        with_all.append_layers(&mixed, TRAJECTORY).unwrap();
        for (got, wanted) in rows.iter().zip(decode(&worker, &with_all, &behind)) {
            assert_close(got, &wanted, CLOSE);
        }
    }
}

/// Piece by piece, with pieces shorter than a window at the end: windows reach over their borders.
#[test]
fn pieces_of_a_compaction_add_up() {
    let name = "gemma3";
    let worker = load(name);
    let (full, captured, behind) = scene(&worker, name);
    let wanted = decode(&worker, &briefing(&worker, &full, &captured.queries, 1.0), &behind);
    for ends in [vec![20, 40, 60], vec![56, 57, 60], vec![1, 60]] {
        let (mut cache, mut from) = (worker.model().new_cache(), 0);
        for to in ends {
            let config = worker.config();
            let layers = config.of_global_layers(full.layers_range(from, to).unwrap());
            let queries = config.of_global_layers(captured.queries.clone());
            let global = compact(&layers, &queries, &Compaction::keep_ratio(1.0)).unwrap().layers;
            let layers = full.with_windows(global, &(from..to), TRAJECTORY - to).unwrap();
            cache.append_compacted(&layers, to - from).unwrap();
            from = to;
        }
        assert_eq!((cache.slot_count(0), cache.slots()), (WINDOW - 1, TRAJECTORY));
        for (got, wanted) in decode(&worker, &cache, &behind).iter().zip(&wanted) {
            assert_close(got, wanted, CLOSE);
        }
    }
}

#[test]
fn layers_with_a_window_are_not_compacted() {
    let worker = load("gemma3");
    let (full, captured, behind) = scene(&worker, "gemma3");
    let config = Compaction::keep_ratio(0.2);
    let layers = full.layers().unwrap();
    let all = Compactor::new(&layers, &captured.queries, &config).run().unwrap();
    let error = KvCache::from_compacted(&all, TRAJECTORY, worker.config()).unwrap_err();
    assert_error!(error, Error::Cache { .. }, "layer 0", "last 8 positions");
    let short: Vec<LayerKv> = full.layers_range(50, 60).unwrap();
    let error = worker.model().new_cache().append_layers(&short, 20).unwrap_err();
    assert_error!(error, Error::Cache { .. }, "layer 0 has a window", "10 slots for 20 positions");
    let mut cache = worker.model().new_cache();
    cache.append_layers(&short, 10).unwrap();
    let error = full.with_windows(all.layers, &(0..TRAJECTORY), 0).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let mut cut = briefing(&worker, &full, &captured.queries, 1.0);
    worker.model().forward(&behind[..4], &mut cut).unwrap();
    cut.truncate(TRAJECTORY).unwrap();
    assert!(matches!(cut.truncate(TRAJECTORY - 1), Err(Error::Cache { .. })), "a window would lack slots");
    // A briefing is no cache that was read.
    let global = compacted(&worker, &full, &captured.queries, 0.5);
    let error = cut.with_windows(global, &(0..TRAJECTORY), 0).unwrap_err();
    assert_error!(error, Error::Cache { .. }, "7 slots for 60 positions");
}

/// Picked positions: those that a window no longer reaches are not there, the others are where they were.
#[test]
fn picked_slots_stay_at_their_positions() {
    for name in GOLDENS {
        let worker = load(name);
        let (full, _, behind) = scene(&worker, name);
        let all: Vec<u32> = (0..TRAJECTORY as u32).collect();
        let whole = decode(&worker, &full.pick(&all).unwrap(), &behind);
        for (got, wanted) in whole.iter().zip(decode(&worker, &full, &behind)) {
            assert_close(got, &wanted, CLOSE);
        }
        let some: Vec<u32> = (0..50).step_by(3).chain([52, 54, 55, 58]).collect();
        let picked = full.pick(&some).unwrap();
        assert_eq!((picked.slot_count(0), picked.slots()), (3, some.len()));
        // As if the other slots had no mass.
        let hide = |layer: LayerKv| {
            let live = |slot: u32| if some.contains(&slot) { 0f32 } else { f32::NEG_INFINITY };
            let bias: Vec<f32> = (0..layer.kv_heads()).flat_map(|_| all.iter().copied().map(live)).collect();
            let bias = Tensor::from_vec(bias, (layer.kv_heads(), TRAJECTORY), &Device::Cpu).unwrap();
            LayerKv::new(layer.keys, layer.values, Some(bias)).unwrap().with_scale(layer.scale)
        };
        let hidden: Vec<LayerKv> = full.layers().unwrap().into_iter().map(hide).collect();
        let mut masked = worker.model().new_cache();
        masked.append_layers(&hidden, TRAJECTORY).unwrap();
        let rows = decode(&worker, &picked, &behind);
        for (got, wanted) in rows.iter().zip(decode(&worker, &masked, &behind)) {
            assert_close(got, &wanted, CLOSE);
        }
        for bad in [&[3, 3][..], &[60], &[]] {
            assert!(full.pick(bad).is_err(), "{bad:?}");
        }
    }
}

#[test]
fn caches_are_saved_with_their_windows() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("cache.safetensors");
    let worker = load("gemma3");
    let (full, captured, behind) = scene(&worker, "gemma3");
    let small = briefing(&worker, &full, &captured.queries, 0.3);
    for cache in [full.fork(), small, full.pick(&[1, 20, 55, 57, 59]).unwrap()] {
        cache.save(&path).unwrap();
        let loaded = KvCache::load(&path, worker.config(), &Device::Cpu).unwrap();
        assert_eq!(decode(&worker, &loaded, &behind), decode(&worker, &cache, &behind));
    }
    let other = load("gemma3_scaled");
    let error = KvCache::load(&path, other.config(), &Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::Cache { .. }), "{error}");
}

#[test]
fn passes_that_replace_and_observe_are_about_the_other_layers() {
    for name in GOLDENS {
        let worker = load(name);
        let (full, captured, behind) = scene(&worker, name);
        let wanted = worker.config().of_global_layers((0..worker.config().num_hidden_layers).collect());
        let mut replaced = Vec::new();
        let same = worker
            .model()
            .forward_replacing(&behind[..12], &full, &mut |index, queries, layer| {
                replaced.push(index);
                let config = Compaction::keep_ratio(1.0);
                Ok(compact(&[layer], std::slice::from_ref(queries), &config).unwrap().layers.remove(0))
            })
            .unwrap();
        assert_eq!(replaced, wanted);
        assert_close(&flat(&same.captured.logits), &flat(&captured.logits), CLOSE);
        assert_eq!(same.cache.slot_count(0), WINDOW - 1 + 12);
        let score = Compaction::keep_ratio(0.3).score;
        let observing = worker.model().forward_observing(&behind[..12], &mut full.fork(), score).unwrap();
        let observed = observing.observed.unwrap();
        assert_eq!(
            (observed.len(), observing.captured.queries.len()),
            (wanted.len(), captured.queries.len())
        );
        let config = Compaction::keep_ratio(0.3);
        let layers = worker.config().of_global_layers(full.layers().unwrap());
        let queries = worker.config().of_global_layers(observing.captured.queries);
        let compactor = Compactor::new(&layers, &queries, &config);
        let (own, given) = (compactor.run().unwrap(), compactor.observed(&observed).run().unwrap());
        for (own, given) in own.layers.iter().zip(&given.layers) {
            assert_eq!(own.kept, given.kept);
        }
    }
}

fn notes(worker: &Worker, room: RoomPolicy) -> WorkerSession {
    let config = SessionConfig { room, ..SessionConfig::default() };
    let mut session = WorkerSession::with(worker, config).unwrap();
    for number in 0..6 {
        session.extend(Segment::finding(format!("Ship {number} lies in Oslo."))).unwrap();
    }
    session
}

/// Every way of making a briefing; where everything is kept, what is answered is what the full cache answers.
#[test]
fn sessions_brief_and_answer() {
    const TASK: &str = "Where is ship 3?";
    for name in GOLDENS {
        let worker = load(name);
        let mut session = notes(&worker, RoomPolicy::Refuse);
        let full = session.ask(TASK).via(&Handoff::FullKv).run().unwrap().answer.text;
        let keep = |ratio: f64| BriefConfig::from(Compaction::keep_ratio(ratio));
        for ratio in [1.0, 0.3] {
            let ways = [
                keep(ratio),
                keep(ratio).with_task_state(TaskState::Reuse),
                keep(ratio).with_chunking(Chunking::in_place(30)),
                keep(ratio).with_on_policy(true),
                keep(ratio).with_queries(QuerySource::ContextPrefill),
            ];
            for way in ways {
                let outcome = session.ask(TASK).via(Handoff::briefing(way.clone())).run().unwrap();
                assert!(ratio < 1.0 || outcome.answer.text == full, "{way:?}");
                let briefing = session.brief(TASK, &way).unwrap();
                assert_eq!(briefing.cache().slot_count(0), WINDOW - 1, "{way:?}");
                assert_eq!(briefing.cache().slot_count(worker.config().num_hidden_layers - 2), {
                    let global = worker.config().window(worker.config().num_hidden_layers - 2).is_none();
                    if global { briefing.cache().slots() } else { WINDOW - 1 }
                });
            }
        }
        for handoff in [
            Handoff::briefing(keep(0.4).with_chunking(Chunking::rerotated(40))),
            Handoff::briefing(keep(0.4).with_storage(Storage::Bits4)),
            Handoff::PackedKv(Storage::Bits8),
            Handoff::Recent(SelectionSize::KeepRatio(0.3)),
            Handoff::Random { size: SelectionSize::KeepRatio(0.3), seed: 1 },
        ] {
            let tasks = session.ask_all([TASK, TASK]).via(&handoff).run().unwrap();
            assert_eq!(tasks[0].answer.text, tasks[1].answer.text, "{handoff:?}");
        }
    }
}

/// The oldest part of a cache goes on being a cache with a slot for each position.
#[test]
fn sessions_make_room() {
    let worker = load("gemma3");
    let limit = worker.config().position_limit();
    let oldest = CompactOldest { reserve: limit - 330, ..CompactOldest::default() };
    let mut session = notes(&worker, RoomPolicy::CompactOldest(oldest));
    let mut made = 0;
    for number in 0..8 {
        let segment = Segment::finding(format!("The Aurora left Bergen in {number}."));
        made += session.extend(segment).unwrap().room.len();
        let cache = session.cache();
        for layer in 0..cache.num_layers() {
            assert_eq!(cache.slot_count(layer), session.seq_len());
        }
    }
    assert!(made > 0);
    let answer = session.ask("When?").via(&Handoff::FullKv).run().unwrap();
    assert!(answer.answer.tokens.generated > 0);
}
