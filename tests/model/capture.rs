//! The queries that a capturing prefill hands out.

use lb_model::PrefillOptions;

use crate::support::checkpoints::{GROUPED, TIED, golden, prompt, worker};
use crate::support::compare::{F32, assert_close, assert_same, flat};
use crate::support::naive_model::{NaiveCache, NaiveModel};

const TRAJECTORY: usize = 70;

fn whole() -> PrefillOptions {
    PrefillOptions::default()
}

/// Against the f64 model with the trajectory cached: norm, rotation, positions and row order (head, token).
#[test]
fn captured_queries_are_those_of_the_reference() {
    for name in [TIED, GROUPED] {
        let (worker, naive) = (worker(name), NaiveModel::load(&golden(name)));
        let config = worker.config();
        let (kv_heads, group) = (config.num_key_value_heads, config.group_size());
        let tokens = prompt(name);
        let (trajectory, task) = tokens.split_at(TRAJECTORY);
        let mut cache = worker.model().new_cache();
        worker.model().forward(trajectory, &mut cache).unwrap();
        let mut reference = NaiveCache::of(&cache.layers().unwrap(), TRAJECTORY);
        let captured = worker.model().prefill_capturing(task, &mut cache, &whole(), &mut |_, _| {}).unwrap();
        assert_eq!(captured.queries.len(), config.num_hidden_layers);
        for (t, &token) in task.iter().enumerate() {
            let step = naive.step(token, &mut reference);
            for (queries, expected) in captured.queries.iter().zip(&step.queries) {
                assert_eq!(queries.dims(), [kv_heads, group * task.len(), config.head_dim]);
                for (head, expected) in expected.iter().enumerate() {
                    let row = queries.get(head / group).unwrap().get(head % group * task.len() + t).unwrap();
                    assert_close(&flat(&row), expected, F32);
                }
            }
        }
    }
}

/// The trajectory in the cache and the task behind it is the same as one forward pass over both.
#[test]
fn capture_over_a_cache_equals_one_full_forward() {
    for name in [TIED, GROUPED] {
        let worker = worker(name);
        let (kv_heads, group) = (worker.config().num_key_value_heads, worker.config().group_size());
        let tokens = prompt(name);
        let mut all = worker.model().new_cache();
        let full = worker.model().prefill_capturing(&tokens, &mut all, &whole(), &mut |_, _| {}).unwrap();
        let mut cache = worker.model().new_cache();
        worker.model().forward(&tokens[..TRAJECTORY], &mut cache).unwrap();
        let task = &tokens[TRAJECTORY..];
        let cached = worker.model().prefill_capturing(task, &mut cache, &whole(), &mut |_, _| {}).unwrap();
        assert_close(&flat(&cached.logits), &flat(&full.logits), F32);
        for (cached, full) in cached.queries.iter().zip(&full.queries) {
            let full = full.reshape((kv_heads, group, tokens.len(), ())).unwrap();
            let rows = full.narrow(2, TRAJECTORY, task.len()).unwrap();
            assert_close(&flat(cached), &flat(&rows), F32);
        }
    }
}

/// Capturing changes nothing, and chunks are put back together in row order.
#[test]
fn capturing_is_free_of_side_effects_and_chunks_join() {
    let worker = worker(TIED);
    let tokens = prompt(TIED);
    let (mut plain, mut captured) = (worker.model().new_cache(), worker.model().new_cache());
    let logits = worker.model().prefill(&tokens, &mut plain, &whole(), &mut |_, _| {}).unwrap();
    let capture = worker.model().prefill_capturing(&tokens, &mut captured, &whole(), &mut |_, _| {}).unwrap();
    assert_same(&logits, &capture.logits);
    for (a, b) in plain.layers().unwrap().iter().zip(&captured.layers().unwrap()) {
        assert_same(&a.keys, &b.keys);
        assert_same(&a.values, &b.values);
    }
    let mut chunked = worker.model().new_cache();
    let options = PrefillOptions { chunk: 7 };
    let joined = worker.model().prefill_capturing(&tokens, &mut chunked, &options, &mut |_, _| {}).unwrap();
    for (joined, once) in joined.queries.iter().zip(&capture.queries) {
        assert_eq!(joined.dims(), once.dims());
        assert_close(&flat(joined), &flat(once), F32);
    }
}

/// Passes that are large enough to write into what earlier layers have left: as many small ones, and what was handed
/// out before stays as it was.
#[test]
fn memory_that_layers_leave_to_each_other_changes_nothing() {
    let worker = crate::support::embedded();
    let tokens: Vec<u32> = (0..300).map(|i| 5 + i * 31 % 1000).collect();
    let capture = |chunk: usize| {
        let mut cache = worker.model().new_cache();
        let options = PrefillOptions { chunk };
        worker.model().prefill_capturing(&tokens, &mut cache, &options, &mut |_, _| {}).unwrap()
    };
    let once = capture(tokens.len());
    let before: Vec<Vec<f64>> = once.queries.iter().map(flat).collect();
    for chunk in [7, 150] {
        let again = capture(chunk);
        assert_close(&flat(&again.logits), &flat(&once.logits), F32);
        for (again, once) in again.queries.iter().zip(&once.queries) {
            assert_close(&flat(again), &flat(once), F32);
        }
    }
    assert!(once.queries.iter().map(flat).eq(before), "queries that were handed out were written on");
}
