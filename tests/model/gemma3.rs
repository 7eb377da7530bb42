//! Gemma 3: layers with a window beside those that attend to everything.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use latent_briefing::prelude::*;
use latent_briefing::session::{CompactOldest, RoomPolicy};
use lb_am::{CompactedLayer, Compaction, Compactor, LayerKv, compact};
use lb_model::{Captured, Error, GgufFormat, KvCache, LocalAttention, ModelConfig, PrefillOptions};
use serde_json::{Map, Value, json};

use super::gguf::{Written, logits};
use crate::support::assert_error;
use crate::support::checkpoints::{golden, golden_json, golden_logits, ids, prompt};
use crate::support::compare::{assert_close, assert_same, distance, flat};
use crate::support::gguf_bytes::{self, Gguf};

const GOLDENS: [&str; 2] = ["gemma3", "gemma3_scaled"];
const WINDOW: usize = 8;
/// Logits of about ±12 in f32, in another order of summation.
const CLOSE: f64 = 1e-4;
const TRAJECTORY: usize = 60;

fn load(name: &str) -> Worker {
    let f32 = Some(candle_core::DType::F32);
    Checkpoint::dir(golden(name)).unwrap().load(&Device::Cpu, f32).unwrap()
}

fn read(worker: &Worker, tokens: &[u32]) -> KvCache {
    let mut cache = worker.model().new_cache();
    worker.model().forward(tokens, &mut cache).unwrap();
    cache
}

/// Logits behind each of `tokens`, one by one.
fn decode(worker: &Worker, cache: &KvCache, tokens: &[u32]) -> Vec<Vec<f64>> {
    let mut cache = cache.fork();
    tokens.iter().map(|token| flat(&worker.model().forward(&[*token], &mut cache).unwrap())).collect()
}

fn local_layers(worker: &Worker) -> Vec<usize> {
    let config = worker.config();
    (0..config.num_hidden_layers).filter(|layer| config.window(*layer).is_some()).collect()
}

#[test]
fn configurations_say_which_layers_have_a_window() {
    let config = load("gemma3_scaled");
    let config = config.config();
    let local = config.local.as_ref().unwrap();
    assert_eq!((local.window, config.window(1), config.window(2)), (WINDOW, Some(WINDOW), None));
    assert_eq!(config.of_global_layers((0..8).collect()), [2, 5]);
    let scale = f64::from(config.attention_scale);
    for (got, wanted) in [(local.rope_theta, 5e3), (config.rope_theta, 1e5), (scale, 7f64.sqrt().recip())] {
        assert!((got - wanted).abs() < 1e-6 * wanted);
    }
}

/// Pieces that end before, at and behind the border of a window, and single tokens: the logits of transformers at every
/// position that the golden has.
#[test]
fn pieces_of_any_length_agree() {
    for name in GOLDENS {
        let (worker, tokens) = (load(name), prompt(name));
        let positions = ids(&golden_json(name)["logit_positions"]);
        for piece in [1, 3, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 70] {
            let mut cache = worker.model().new_cache();
            let rows: Vec<Vec<f64>> = tokens
                .chunks(piece)
                .flat_map(|piece| {
                    let logits = worker.model().forward_all(piece, &mut cache).unwrap();
                    (0..piece.len()).map(|row| flat(&logits.get(row).unwrap())).collect::<Vec<_>>()
                })
                .collect();
            for (position, wanted) in positions.iter().zip(golden_logits(name)) {
                assert_close(&rows[*position as usize], &wanted, CLOSE);
            }
        }
    }
}

/// Sequences of different lengths in one pass, alone and as forks that share what the window no longer reaches.
#[test]
fn batches_and_forks_agree_with_sequences_alone() {
    for name in GOLDENS {
        let (worker, tokens) = (load(name), prompt(name));
        let starts = [&tokens[..3], &tokens[..WINDOW], &tokens[..40], &tokens[..40]];
        let parts = [&tokens[40..41], &tokens[50..53], &tokens[41..60], &tokens[60..61]];
        let apart: Vec<KvCache> = starts.iter().map(|start| read(&worker, start)).collect();
        let whole = read(&worker, starts[2]);
        let mut forks: Vec<KvCache> = apart.iter().map(KvCache::fork).collect();
        (forks[2], forks[3]) = (whole.fork(), whole.fork());
        let alone: Vec<Vec<f64>> = apart
            .iter()
            .zip(&parts)
            .map(|(cache, part)| flat(&worker.model().forward(part, &mut cache.fork()).unwrap()))
            .collect();
        let together = worker.model().forward_batch(&parts, &mut forks).unwrap();
        for (together, alone) in together.iter().zip(&alone) {
            assert_close(&flat(together), alone, CLOSE);
        }
        let options = PrefillOptions { chunk: 5 };
        let mut caches: Vec<KvCache> = parts.iter().map(|_| worker.model().new_cache()).collect();
        let all = starts.map(<[u32]>::to_vec);
        worker.model().prefill_batch(&all, &mut caches, &options, &mut |_, _| {}).unwrap();
        let together = worker.model().forward_batch(&parts, &mut caches).unwrap();
        for (together, alone) in together.iter().zip(&alone) {
            assert_close(&flat(together), alone, CLOSE);
        }
    }
}

/// Keys of a layer move by that layer's own rotation: the first layer has seen nothing but tokens.
#[test]
fn keys_move_by_the_rotation_of_their_layer() {
    for name in GOLDENS {
        let (worker, tokens) = (load(name), prompt(name));
        let near = read(&worker, &tokens[10..30]).layer(0).unwrap().keys;
        let far = read(&worker, &tokens[..30]).layer_range(0, 10, 30).unwrap().keys;
        let positions: Vec<u32> = (0..20).collect();
        let moved = worker.model().rerotate(0, &near, &positions, 10).unwrap();
        assert_close(&flat(&moved), &flat(&far), 1e-4);
        let global = (0..1000).find(|layer| worker.config().window(*layer).is_none()).unwrap();
        let other = worker.model().rerotate(global, &near, &positions, 10).unwrap();
        assert!(distance(&flat(&other), &flat(&far)) > 0.1);
    }
}

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
    let config = Compaction::keep_ratio(ratio);
    compact(&layers, &queries, &config).unwrap().layers
}

fn briefing(worker: &Worker, full: &KvCache, queries: &[Tensor], ratio: f64) -> KvCache {
    let global = compacted(worker, full, queries, ratio);
    let layers = full.with_windows(global, &(0..TRAJECTORY), 0).unwrap();
    let mut cache = worker.model().new_cache();
    cache.append_compacted(&layers, TRAJECTORY).unwrap();
    cache
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

/// Norms are stored with 1 added, names are llama.cpp's, and what comes back computes the same.
#[test]
fn gguf_files_compute_the_same() {
    let checkpoint = Checkpoint::dir(golden("gemma3")).unwrap();
    let worker = load("gemma3");
    let reference = logits(&worker, &prompt("gemma3"));
    let range =
        reference.iter().fold(f32::MIN, |a, b| a.max(*b)) - reference.iter().fold(f32::MAX, |a, b| a.min(*b));
    for (format, bound) in [(GgufFormat::F32, 1e-6), (GgufFormat::F16, 5e-3), (GgufFormat::Q8_0, 1e-1)] {
        let file = Written::of(&checkpoint, format);
        let read = file.load();
        assert_eq!(read.config().local, worker.config().local);
        assert!((read.config().attention_scale - worker.config().attention_scale).abs() < 1e-7);
        assert!(read.config().tie_word_embeddings);
        let got = logits(&read, &prompt("gemma3"));
        let far = got.iter().zip(&reference).fold(0f32, |far, (a, b)| far.max((a - b).abs())) / range;
        assert!(far <= bound, "{}: {far:e}", format.name());
    }
    let file = Written::of(&checkpoint, GgufFormat::F32);
    let mut gguf = Gguf::read(&file.path());
    let tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(golden("gemma3").join("model.safetensors"), &Device::Cpu).unwrap();
    for (name, stored) in [
        ("model.norm", "output_norm"),
        ("model.layers.1.post_attention_layernorm", "blk.1.post_attention_norm"),
        ("model.layers.1.pre_feedforward_layernorm", "blk.1.ffn_norm"),
        ("model.layers.1.post_feedforward_layernorm", "blk.1.post_ffw_norm"),
        ("model.layers.5.self_attn.q_norm", "blk.5.attn_q_norm"),
    ] {
        let weights = flat(&tensors[&format!("{name}.weight")]);
        let at = gguf.tensor(&format!("{stored}.weight")).offset as usize;
        for (weight, bytes) in weights.iter().zip(gguf.data[at..].chunks_exact(4)) {
            let stored = f32::from_le_bytes(bytes.try_into().unwrap());
            assert!((f64::from(stored) - weight - 1.0).abs() < 1e-6, "{name}");
        }
    }
}

/// What such files do not say is what llama.cpp takes, and what they cannot say is refused by name.
#[test]
fn gguf_files_mean_what_llama_cpp_reads() {
    let file = Written::of(&Checkpoint::dir(golden("gemma3")).unwrap(), GgufFormat::F32);
    let mut gguf = Gguf::read(&file.path());
    gguf.values.retain(|(key, _)| !key.ends_with("freq_base_swa"));
    gguf.write(&file.path());
    let local = |worker: &Worker| worker.config().local.clone().unwrap();
    let LocalAttention { window, rope_theta, layers, .. } = local(&file.load());
    assert_eq!((window, layers), (WINDOW, vec![true, true, true, true, true, false, true]));
    assert!((rope_theta - 1e4).abs() < 1e-9);
    for (pattern, second) in
        [(gguf_bytes::Value::U32(2), false), (gguf_bytes::Value::U32s(vec![1, 1, 0, 1, 1, 0, 1]), true)]
    {
        gguf.set("gemma3.attention.sliding_window_pattern", pattern);
        gguf.write(&file.path());
        assert_eq!(local(&file.load()).layers[1], second);
    }
    gguf.set("gemma3.attention.sliding_window_pattern", gguf_bytes::Value::U32s(vec![1, 1, 0]));
    gguf.write(&file.path());
    let error = super::gguf::load(&file.path()).unwrap_err();
    assert_error!(error, Error::Config { .. }, "layer_types", "one for each layer");
    gguf.values.retain(|(key, _)| !key.contains("sliding_window"));
    gguf.write(&file.path());
    assert_eq!(file.load().config().local, None);
    gguf.set("gemma3.final_logit_softcapping", gguf_bytes::Value::F32(30.0));
    gguf.write(&file.path());
    let error = super::gguf::load(&file.path()).unwrap_err();
    assert_error!(error, Error::UnsupportedConfig { .. }, "final_logit_softcapping");
    let folder = tempfile::TempDir::new().unwrap();
    let scaled = Checkpoint::dir(golden("gemma3_scaled")).unwrap();
    let error = scaled.write_gguf(folder.path().join("x.gguf"), GgufFormat::F32).unwrap_err();
    assert_error!(error, Error::UnsupportedConfig { .. }, "attention_scale", "GGUF files do not say it");
}

fn with(field: &str, value: Value) -> Result<ModelConfig, Error> {
    let json = std::fs::read(golden("gemma3").join("config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_slice(&json).unwrap();
    config.insert(field.to_owned(), value);
    let json = serde_json::to_vec(&config).unwrap();
    ModelConfig::parse(&json, Path::new("M/config.json")).map(|(config, _)| config)
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let sliding = vec!["sliding_attention"; 6];
    for (field, value, says) in [
        ("attn_logit_softcapping", json!(50.0), "soft-capped"),
        ("final_logit_softcapping", json!(30.0), "soft-capped"),
        ("hidden_activation", json!("gelu"), "only gelu_pytorch_tanh"),
        ("use_bidirectional_attention", json!(true), "came before"),
        ("vision_config", json!({"hidden_size": 1152}), "pictures"),
        ("sliding_window", json!(null), "need its width"),
        ("sliding_window", json!(0), "at least 1"),
        ("layer_types", json!(sliding), "6 kinds for 7 layers"),
        ("layer_types", json!(vec!["chunked_attention"; 7]), "chunked_attention are not computed"),
        ("rope_parameters", json!({"rope_type": "default", "rope_theta": 1e6}), "full_attention"),
        (
            "rope_parameters",
            json!({"sliding_attention": {"rope_type": "linear", "factor": 2.0}}),
            "unscaled rotary",
        ),
        ("architectures", json!(["Gemma3ForConditionalGeneration"]), "only Gemma3ForCausalLM"),
        ("architectures", json!(["Gemma3TextModel"]), "no head to write with"),
        ("model_type", json!("gemma3"), "gemma3_text"),
        ("model_type", json!("gemma2"), "soft-capped"),
        ("model_type", json!("gemma"), "Gemma 1"),
        ("model_type", json!("gemma3n"), "share keys and values"),
    ] {
        let error = with(field, value.clone()).unwrap_err();
        assert!(matches!(error, Error::UnsupportedConfig { .. }), "{field} = {value}: {error}");
        let error = error.to_string();
        assert!(error.contains(field) && error.contains(says), "{field} = {value}: {error}");
    }
    for (field, value) in [("query_pre_attn_scalar", json!(0)), ("rope_local_base_freq", json!(-1.0))] {
        let mut json: Map<String, Value> = serde_json::from_slice(
            &std::fs::read(golden("gemma3").join("config.transformers4.json")).unwrap(),
        )
        .unwrap();
        json.insert(field.to_owned(), value);
        let parsed = ModelConfig::parse(&serde_json::to_vec(&json).unwrap(), Path::new("M/config.json"));
        assert_error!(parsed.unwrap_err(), Error::Config { .. }, field);
    }
    let all = with("layer_types", json!(vec!["full_attention"; 7])).unwrap();
    assert_eq!(all.local, None);
}

/// Line ends and runs of spaces among the added tokens are text like any other; what looks like markup is spelled there.
#[test]
fn white_space_among_added_tokens_is_text() {
    let pieces = ["\u{2581}", "a", "<", "b", ">", "\n", "\u{2581}\u{2581}", "<b>", "\u{2581}a"];
    let bytes = (0..256u32).map(|byte| format!("<0x{byte:02X}>"));
    let vocab: Map<String, Value> =
        bytes.chain(pieces.map(str::to_owned)).zip((0u32..).map(Value::from)).collect();
    let added = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "special": false, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    };
    let replace =
        |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [added(261, "\n"), added(262, "\u{2581}\u{2581}"), added(263, "<b>")],
        "normalizer": replace(" ", "\u{2581}"),
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
        },
        "post_processor": null,
        "decoder": {
            "type": "Sequence",
            "decoders": [replace("\u{2581}", " "), {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": [["\u{2581}", "\u{2581}"], ["\u{2581}", "a"]],
        },
    });
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let (tokenizer, text) = (latent_briefing::model::Tokenizer::load(folder.path()).unwrap(), "a  a\n<b> a");
    let ids = tokenizer.encode_text(text).unwrap();
    assert_eq!(ids, [257, 262, 257, 261, 258, 259, 260, 264]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert_eq!(tokenizer.encode_template(text).unwrap(), [257, 262, 257, 261, 263, 264]);
}
