//! Against transformers: logits at every position and 64 greedy tokens (`tools/golden/make_golden.py`).

use latent_briefing::model::Worker;

use crate::support::checkpoints::{GROUPED, TIED, golden, golden_json, golden_logits, ids, prompt, worker};
use crate::support::compare::{F32, assert_close, flat};
use crate::support::embedded;
use crate::support::naive_model::NaiveModel;

fn matches_transformers(worker: &Worker, name: &str) {
    let expected = golden_json(name);
    let tokens = ids(&expected["tokens"]);
    let mut cache = worker.model().new_cache();
    let logits = worker.model().forward_all(&tokens, &mut cache).unwrap();
    let positions = ids(&expected["logit_positions"]);
    assert!(positions.len() > 10);
    for (row, position) in golden_logits(name).iter().zip(positions) {
        assert_close(&flat(&logits.get(position as usize).unwrap()), row, F32);
    }
    let mut next = logits.get(tokens.len() - 1).unwrap();
    for (step, expected) in ids(&expected["greedy"]).into_iter().enumerate() {
        let token = next.argmax(0).unwrap().to_scalar::<u32>().unwrap();
        assert_eq!(token, expected, "greedy step {step}");
        next = worker.model().forward(&[token], &mut cache).unwrap();
    }
    assert_eq!(cache.logical_len(), tokens.len() + 64);
}

#[test]
fn tied_head_matches_transformers() {
    matches_transformers(&worker(TIED), TIED);
}

#[test]
fn grouped_heads_in_bf16_shards_match_transformers() {
    matches_transformers(&worker(GROUPED), GROUPED);
}

#[test]
fn the_built_in_worker_matches_transformers() {
    matches_transformers(embedded(), "default_worker");
    let expected = golden_json("default_worker");
    let text = expected["text"].as_str().unwrap();
    assert_eq!(embedded().tokenizer().encode_text(text).unwrap(), ids(&expected["text_tokens"]));
    for case in expected["templates"].as_array().unwrap() {
        let thinking = case["enable_thinking"].as_bool().unwrap();
        let parts = embedded().template().unwrap().split(case["system"].as_str(), thinking).unwrap();
        let question = expected["question"].as_str().unwrap();
        assert_eq!(format!("{}{question}{}", parts.head, parts.tail), case["text"].as_str().unwrap());
    }
}

/// The oracle of the other tests is itself held against transformers.
#[test]
fn naive_reference_matches_transformers() {
    for name in [TIED, GROUPED] {
        let model = NaiveModel::load(&golden(name));
        let mut cache = model.empty_cache();
        for (token, row) in prompt(name).into_iter().zip(golden_logits(name)) {
            assert_close(&model.step(token, &mut cache).logits, &row, F32);
        }
    }
}

#[test]
fn tokens_match_transformers() {
    for name in [TIED, GROUPED] {
        let (worker, expected) = (worker(name), golden_json(name));
        let text = expected["text"].as_str().unwrap();
        assert_eq!(worker.tokenizer().encode_text(text).unwrap(), ids(&expected["text_tokens"]));
    }
}
