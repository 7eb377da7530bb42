//! Gemma 3: layers with a window beside those that attend to everything.

mod compactions;
mod files;

use candle_core::Device;
use latent_briefing::prelude::*;
use lb_model::{KvCache, PrefillOptions};

use crate::support::checkpoints::{golden, golden_json, golden_logits, ids, prompt};
use crate::support::compare::{assert_close, distance, flat};

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
