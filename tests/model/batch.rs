//! Several sequences in one pass: the numbers of each alone, whatever is beside it.

use candle_core::{DType, Device, Tensor};
use lb_am::{Compaction, Kept, Selection, compact_at};
use lb_model::{Checkpoint, Error, GenerateOptions, KvCache, PrefillOptions, StopReason, Worker};
use proptest::prelude::*;

use crate::support::checkpoints::{Copy, GROUPED, TIED, golden, prompt, worker};
use crate::support::compare::{assert_close, assert_same, distance, flat};

/// Another order of summation, relative to the largest logit.
const ORDER: f64 = 1e-5;

/// In a 16-bit cache a key or value next to the middle between two numbers may be rounded to the other one.
const ROUNDED: f64 = 5e-3;

/// A long input may be rounded to bf16 for its products, a short one is not, and a batch is longer than its sequences.
const LONG: f64 = 3e-2;

fn close(together: &Tensor, alone: &Tensor, tolerance: f64) {
    let (together, alone) = (flat(together), flat(alone));
    let scale = alone.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
    assert_close(&together, &alone, tolerance * scale);
}

fn same_contents(a: &KvCache, b: &KvCache, tolerance: f64) {
    assert_eq!((a.logical_len(), a.mean_slots(), a.bytes()), (b.logical_len(), b.mean_slots(), b.bytes()));
    if a.is_empty() {
        return;
    }
    for (a, b) in a.layers().unwrap().iter().zip(&b.layers().unwrap()) {
        close(&a.keys, &b.keys, tolerance);
        close(&a.values, &b.values, tolerance);
    }
}

/// Reads `rounds[r][sequence]` behind forks of `caches`, in a batch and alone: logits and caches agree.
fn check(worker: &Worker, caches: &[KvCache], rounds: &[Vec<Vec<u32>>], tolerance: f64) {
    let forks = || caches.iter().map(KvCache::fork).collect::<Vec<_>>();
    let (mut together, mut alone) = (forks(), forks());
    for tokens in rounds {
        let logits = worker.model().forward_batch(tokens, &mut together).unwrap();
        assert_eq!(logits.len(), tokens.len());
        for ((logits, tokens), cache) in logits.iter().zip(tokens).zip(&mut alone) {
            close(logits, &worker.model().forward(tokens, cache).unwrap(), tolerance);
        }
    }
    for (together, alone) in together.iter().zip(&alone) {
        same_contents(together, alone, tolerance);
    }
}

fn read(worker: &Worker, tokens: &[u32]) -> KvCache {
    let mut cache = worker.model().new_cache();
    if !tokens.is_empty() {
        worker.model().forward(tokens, &mut cache).unwrap();
    }
    cache
}

/// `full` with `keep(layer, head)` slots left in each head, evenly spread.
fn compacted(worker: &Worker, full: &KvCache, task: &[u32], keep: impl Fn(usize, usize) -> usize) -> KvCache {
    let options = PrefillOptions::default();
    let queries =
        worker.model().prefill_capturing(task, &mut full.fork(), &options, &mut |_, _| {}).unwrap().queries;
    let (layers, len) = (full.layers().unwrap(), full.logical_len());
    let slots = |count: usize| (0..count).map(|i| (i * len / count) as u32).collect();
    let kept: Vec<Kept> = (0..layers.len())
        .map(|l| Kept::per_head((0..layers[l].kv_heads()).map(|h| slots(keep(l, h))).collect()))
        .collect();
    let config = Compaction::default().with_selection(Selection::per_head());
    let compacted = compact_at(&layers, &queries, &kept, &config).unwrap();
    KvCache::from_compacted(&compacted, len, worker.config()).unwrap()
}

/// Empty, short, long, three forks of one cache and a fork of a fork, evenly compacted, ragged and a fork of it.
fn mixed_caches(worker: &Worker, tokens: &[u32]) -> Vec<KvCache> {
    let full = read(worker, &tokens[..50]);
    let mut extended = full.fork();
    worker.model().forward(&tokens[50..57], &mut extended).unwrap();
    let even = compacted(worker, &full, &tokens[50..60], |_, _| 12);
    let ragged = compacted(worker, &full, &tokens[50..60], |layer, head| 3 + 11 * head + 2 * layer);
    let (fork, again) = (ragged.fork(), extended.fork());
    let own = read(worker, &tokens[..50]);
    vec![
        read(worker, &[]),
        full.fork(),
        even,
        extended,
        full,
        ragged,
        read(worker, &tokens[..9]),
        fork,
        again,
        own,
    ]
}

/// Lengths of 1 and more; from the second round on each cache has a tail of its own.
fn rounds(tokens: &[u32], sequences: usize) -> Vec<Vec<Vec<u32>>> {
    let lengths = [[1, 7, 1, 13, 5, 1, 20, 3, 2, 1], [1; 10], [4, 1, 6, 1, 1, 9, 1, 2, 1, 30], [1; 10]];
    let round = |(number, lengths): (usize, &[usize; 10])| {
        let part = |(i, &n): (usize, &usize)| tokens[(7 * i + number) % 40..][..n].to_vec();
        lengths[..sequences].iter().enumerate().map(part).collect()
    };
    lengths.iter().enumerate().map(round).collect()
}

#[test]
fn a_batch_is_its_sequences_one_by_one() {
    for name in [TIED, GROUPED] {
        let (worker, tokens) = (worker(name), prompt(name));
        let caches = mixed_caches(&worker, &tokens);
        check(&worker, &caches, &rounds(&tokens, caches.len()), ORDER);
    }
}

#[test]
fn narrow_weights_and_caches_read_in_batches() {
    for name in [TIED, GROUPED] {
        let tokens = prompt(name);
        for dtype in [DType::BF16, DType::F16] {
            let worker = Checkpoint::dir(golden(name)).unwrap().load(&Device::Cpu, Some(dtype)).unwrap();
            let caches = mixed_caches(&worker, &tokens);
            assert_eq!(caches[0].dtype(), dtype);
            let long = if dtype == DType::BF16 { LONG } else { ROUNDED };
            check(&worker, &caches, &rounds(&tokens, caches.len()), long);
            // With f32 caches short inputs are not rounded, and narrow weights alone keep to the order of summation.
            let wide: Vec<KvCache> =
                (0..10).map(|_| KvCache::new(worker.config(), DType::F32, &Device::Cpu)).collect();
            check(&worker, &wide[..4], &rounds(&tokens, 4), ORDER);
            check(&worker, &wide, &rounds(&tokens, 10), if dtype == DType::BF16 { LONG } else { ORDER });
            // Up to six rows, each is multiplied on its own.
            let single: Vec<Vec<Vec<u32>>> =
                (0..3).map(|round| (0..4).map(|i| vec![tokens[4 * round + i]]).collect()).collect();
            check(&worker, &wide[..4], &single, 0.0);
        }
    }
}

/// A mixture of four experts of which a token takes two, in every layer but the first.
#[test]
fn experts_read_in_batches() {
    let copy = Copy::of(TIED);
    copy.edit_json("config.json", |c| {
        let more = serde_json::json!({
            "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 4,
            "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": true, "mlp_only_layers": [0],
        });
        c.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    });
    copy.edit_tensors(|tensors| {
        let noise = |rows, columns| Tensor::randn(0f32, 0.15, (rows, columns), &Device::Cpu).unwrap();
        for layer in 1..3 {
            let prefix = format!("model.layers.{layer}.mlp");
            tensors.retain(|name, _| !name.starts_with(&prefix));
            tensors.insert(format!("{prefix}.gate.weight"), noise(4, 48));
            for expert in 0..4 {
                let name = |part: &str| format!("{prefix}.experts.{expert}.{part}_proj.weight");
                tensors.insert(name("gate"), noise(24, 48));
                tensors.insert(name("up"), noise(24, 48));
                tensors.insert(name("down"), noise(48, 24));
            }
        }
    });
    let (worker, tokens) = (copy.load(), prompt(TIED));
    assert!(worker.config().experts.is_some());
    let caches = mixed_caches(&worker, &tokens);
    check(&worker, &caches, &rounds(&tokens, caches.len()), ORDER);
}

/// A batch of one is the call without one, bit for bit.
#[test]
fn a_batch_of_one_and_an_empty_batch() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let cache = read(&worker, &tokens[..40]);
    let (mut a, mut b) = ([cache.fork()], cache.fork());
    for part in [&tokens[40..60], &tokens[60..61]] {
        let together = worker.model().forward_batch(&[part], &mut a).unwrap();
        assert_same(&together[0], &worker.model().forward(part, &mut b).unwrap());
    }
    let options = PrefillOptions { chunk: 6 };
    let mut ignore = |_, _| {};
    let captured = worker.model().prefill_capturing_batch(&[&tokens[61..80]], &mut a, &options, &mut ignore);
    let expected = worker.model().prefill_capturing(&tokens[61..80], &mut b, &options, &mut ignore).unwrap();
    let captured = captured.unwrap().remove(0);
    assert_same(&captured.logits, &expected.logits);
    for (together, alone) in captured.queries.iter().zip(&expected.queries) {
        assert_same(together, alone);
    }

    let none: [&[u32]; 0] = [];
    let no_caches: &mut [KvCache] = &mut [];
    assert!(worker.model().forward_batch(&none, no_caches).unwrap().is_empty());
    assert!(worker.model().prefill_batch(&none, no_caches, &options, &mut ignore).unwrap().is_empty());
    assert!(worker.generate_batch(no_caches, &none, &[], &mut |_, _, _| true).unwrap().is_empty());
}

/// Each sequence is cut where it is cut alone, and no pass is longer than a chunk.
#[test]
fn long_prompts_are_read_in_chunks() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let full = read(&worker, &tokens[..30]);
    let prompts = [&tokens[30..80], &tokens[10..11], &tokens[40..62], &tokens[..9]];
    for chunk in [1, 7, 22, 1000] {
        let options = PrefillOptions { chunk };
        let mut caches = [(); 4].map(|()| full.fork());
        let mut heard = vec![0];
        let mut hear = |done, total| {
            assert_eq!(total, 82);
            heard.push(done);
        };
        let captured =
            worker.model().prefill_capturing_batch(&prompts, &mut caches, &options, &mut hear).unwrap();
        assert!(heard.windows(2).all(|w| w[0] < w[1] && w[1] - w[0] <= chunk) && heard.ends_with(&[82]));
        for ((prompt, cache), captured) in prompts.iter().zip(&caches).zip(&captured) {
            let mut alone = full.fork();
            let expected =
                worker.model().prefill_capturing(prompt, &mut alone, &options, &mut |_, _| {}).unwrap();
            close(&captured.logits, &expected.logits, ORDER);
            same_contents(cache, &alone, ORDER);
            assert_eq!(captured.queries.len(), expected.queries.len());
            for (together, alone) in captured.queries.iter().zip(&expected.queries) {
                assert_eq!(together.dims(), alone.dims());
                close(together, alone, ORDER);
            }
        }
    }
}

/// Tokens, and whether an error is theirs.
type Fault<'a> = (&'a [u32], fn(&Error) -> bool);

#[test]
fn the_sequence_at_fault_is_named_and_nothing_changes() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let foreign = Worker::load(golden(GROUPED)).unwrap();
    let limit = worker.config().position_limit();
    let full = read(&worker, &tokens);
    let long = vec![5; limit];
    let faults: [Fault; 3] = [
        (&[], |e| matches!(e, Error::Empty { arg: "tokens" })),
        (&[3, 9999], |e| matches!(e, Error::TokenRange { id: 9999, .. })),
        (&long, |e| matches!(e, Error::ContextOverflow { .. })),
    ];
    let options = PrefillOptions { chunk: 4 };
    let mut ignore = |_, _| {};
    for (fault, expected) in faults {
        let prompts = [&tokens[..12], &tokens[..1], fault, &[]];
        let mut caches = [(); 4].map(|()| full.fork());
        let greedy = vec![GenerateOptions::greedy(3); 4];
        let errors = [
            worker.model().forward_batch(&prompts, &mut caches).unwrap_err(),
            worker.model().prefill_batch(&prompts, &mut caches, &options, &mut ignore).unwrap_err(),
            worker.generate_batch(&mut caches, &prompts, &greedy, &mut |_, _, _| true).unwrap_err(),
        ];
        for error in errors {
            let Error::Sequence { index: 2, source } = &error else { panic!("{error}") };
            assert!(expected(source), "{error}");
            assert!(error.to_string().starts_with("sequence 2: "), "{error}");
        }
        assert!(caches.iter().all(|cache| cache.logical_len() == full.logical_len()));
        same_contents(&caches[0], &full, 0.0);
    }

    let mut caches = [full.fork(), foreign.model().new_cache()];
    let error = worker.model().forward_batch(&[[1], [1]], &mut caches).unwrap_err();
    assert!(
        matches!(error, Error::Sequence { index: 1, ref source } if matches!(**source, Error::Cache { .. }))
    );
    let error = worker.model().forward_batch(&[[1]], &mut caches).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "caches", .. }), "{error}");
    let error = worker.generate_batch(&mut caches, &[[1], [1]], &[], &mut |_, _, _| true).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "options", .. }), "{error}");
    let none = PrefillOptions { chunk: 0 };
    let error = worker.model().prefill_batch(&[[1]], &mut caches[..1], &none, &mut ignore).unwrap_err();
    assert!(matches!(error, Error::Config { field: "chunk", .. }), "{error}");
    let options = [GenerateOptions::greedy(1), GenerateOptions::greedy(0)];
    let error = worker.generate_batch(&mut caches, &[[1], [1]], &options, &mut |_, _, _| true).unwrap_err();
    assert!(matches!(error, Error::Sequence { index: 1, .. }), "{error}");
    assert_eq!((caches[0].logical_len(), caches[1].logical_len()), (tokens.len(), 0));
}

/// A checkpoint that never ends by itself.
fn endless() -> Worker {
    let copy = Copy::of(TIED);
    copy.edit_json("config.json", |c| c["eos_token_id"] = serde_json::Value::Null);
    copy.edit_json("generation_config.json", |c| c["eos_token_id"] = serde_json::Value::Null);
    copy.edit_json("tokenizer_config.json", |c| drop(c.as_object_mut().unwrap().remove("eos_token")));
    copy.edit_json("config.json", |c| c["max_position_embeddings"] = 100.into());
    copy.load()
}

type Call<'a> = (&'a KvCache, &'a [u32], GenerateOptions);

/// Every way to stop, and a seed of its own for each: tokens, text and caches of one call for each.
#[test]
fn each_sequence_stops_on_its_own() {
    let (worker, tokens) = (endless(), prompt(TIED));
    let full = read(&worker, &tokens[..40]);
    let ragged = compacted(&worker, &full, &tokens[40..50], |layer, head| 5 + 9 * head + layer);
    let greedy = |n| GenerateOptions::greedy(n);
    let sampled = |seed| GenerateOptions { temperature: Some(3.0), seed, ..greedy(25) };
    let first = worker.generate(&mut full.fork(), &tokens[40..60], &greedy(12), &mut |_, _| true).unwrap();
    let stop = GenerateOptions { stop_tokens: vec![first.tokens[7]], ..greedy(30) };
    let calls: Vec<Call> = vec![
        (&full, &tokens[40..60], greedy(30)),
        (&full, &tokens[40..60], stop),
        (&full, &tokens[60..61], sampled(1)),
        (&ragged, &tokens[60..63], sampled(2)),
        (&full, &tokens[30..81], greedy(30)),
        (&full, &tokens[60..61], GenerateOptions { top_k: Some(9), top_p: Some(0.9), ..sampled(3) }),
        (&ragged, &tokens[50..60], greedy(1)),
        (&full, &tokens[60..61], sampled(4)),
    ];
    let callback = |index: usize, count: usize| index != 0 || count < 5;
    let mut caches: Vec<KvCache> = calls.iter().map(|(cache, ..)| cache.fork()).collect();
    let prompts: Vec<&[u32]> = calls.iter().map(|(_, prompt, _)| *prompt).collect();
    let options: Vec<GenerateOptions> = calls.iter().map(|(.., options)| options.clone()).collect();
    let mut heard = vec![(Vec::new(), String::new()); calls.len()];
    let mut hear = |index: usize, token: u32, text: &str| {
        heard[index].0.push(token);
        heard[index].1.push_str(text);
        callback(index, heard[index].0.len())
    };
    let generations = worker.generate_batch(&mut caches, &prompts, &options, &mut hear).unwrap();
    let mut reasons = Vec::new();
    for (index, (cache, prompt, options)) in calls.iter().enumerate() {
        let (mut alone, mut count, mut text) = (cache.fork(), 0, String::new());
        let expected = worker.generate(&mut alone, prompt, options, &mut |_, piece| {
            count += 1;
            text.push_str(piece);
            callback(index, count)
        });
        let (expected, generation) = (expected.unwrap(), &generations[index]);
        assert_eq!((&generation.tokens, &generation.text), (&expected.tokens, &expected.text), "{index}");
        assert_eq!((&heard[index].0, &heard[index].1), (&expected.tokens, &text));
        assert_eq!(generation.stopped, expected.stopped);
        assert!(generation.prefill.as_nanos() > 0 && generation.decode.as_nanos() > 0);
        same_contents(&caches[index], &alone, ORDER);
        reasons.push(generation.stopped);
    }
    let [callback, eos, max, full] =
        [StopReason::Callback, StopReason::Eos, StopReason::MaxTokens, StopReason::ContextFull];
    assert_eq!(reasons, [callback, eos, max, max, full, max, max, max]);
    assert_eq!(generations[4].tokens.len(), 10, "nine positions are read and the tenth token follows");
    assert_ne!(generations[2].tokens, generations[7].tokens, "seeds are their own");
}

#[test]
fn generation_continues_read_prompts() {
    let (worker, tokens) = (endless(), prompt(TIED));
    let mut caches = [read(&worker, &tokens[..30]), read(&worker, &tokens[..7])];
    let logits = worker.model().forward_batch(&[&tokens[30..31], &tokens[7..12]], &mut caches).unwrap();
    let options = vec![GenerateOptions::greedy(9); 2];
    let mut others = caches.each_ref().map(KvCache::fork);
    let made =
        worker.generate_batch_from_logits(&mut caches, &logits, &options, &mut |_, _, _| true).unwrap();
    for ((made, logits), cache) in made.iter().zip(&logits).zip(&mut others) {
        let expected = worker.generate_from_logits(cache, logits, &options[0], &mut |_, _| true).unwrap();
        assert_eq!((&made.tokens, made.prefill.is_zero()), (&expected.tokens, true));
    }
    let bad = [logits[0].clone(), (&logits[1] * f64::NAN).unwrap()];
    let error =
        worker.generate_batch_from_logits(&mut caches, &bad, &options, &mut |_, _, _| true).unwrap_err();
    assert!(
        matches!(&error, Error::Sequence { index: 1, source } if matches!(**source, Error::NonFinite { .. }))
    );
    let bad = [logits[0].narrow(0, 0, 7).unwrap(), logits[1].clone()];
    let error =
        worker.generate_batch_from_logits(&mut caches, &bad, &options, &mut |_, _, _| true).unwrap_err();
    assert!(
        matches!(&error, Error::Sequence { index: 0, source } if matches!(**source, Error::Shape { .. }))
    );
}

/// The other sequence does change what is computed beside it, if only in the last bits; it must not change more.
#[test]
fn sequences_do_not_see_each_other() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let full = read(&worker, &tokens[..40]);
    let beside = |other: &[u32]| {
        let mut caches = [full.fork(), full.fork()];
        flat(&worker.model().forward_batch(&[&tokens[40..44], other], &mut caches).unwrap()[0])
    };
    let (a, b) = (beside(&tokens[50..58]), beside(&tokens[60..68]));
    assert!(distance(&a, &b) == 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any number of forks of any of three caches, any lengths, any chunk.
    #[test]
    fn random_batches_are_their_sequences(
        sequences in prop::collection::vec((0usize..4, prop::collection::vec(0u32..320, 1..24)), 1..9),
        chunk in 1usize..40,
    ) {
        let (worker, tokens) = (worker(TIED), prompt(TIED));
        let full = read(&worker, &tokens[..33]);
        let ragged = compacted(&worker, &full, &tokens[33..40], |layer, head| 2 + 8 * head + layer);
        let kinds = [read(&worker, &[]), full, ragged, read(&worker, &tokens[..3])];
        let fork = || sequences.iter().map(|(kind, _)| kinds[*kind].fork()).collect::<Vec<_>>();
        let prompts: Vec<&[u32]> = sequences.iter().map(|(_, prompt)| prompt.as_slice()).collect();
        let (mut together, options) = (fork(), PrefillOptions { chunk });
        let logits =
            worker.model().prefill_batch(&prompts, &mut together, &options, &mut |_, _| {}).unwrap();
        for (((logits, prompt), cache), mut alone) in logits.iter().zip(&prompts).zip(&together).zip(fork()) {
            let expected = worker.model().prefill(prompt, &mut alone, &options, &mut |_, _| {}).unwrap();
            close(logits, &expected, ORDER);
            same_contents(cache, &alone, ORDER);
        }
    }
}

/// Broken off between two passes: the caches are as before, however much was read.
#[test]
fn reading_can_be_broken_off() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let options = PrefillOptions { chunk: 4 };
    let mut caches = [read(&worker, &tokens[..5]), read(&worker, &[])];
    let before = caches.each_ref().map(KvCache::fork);
    let prompts = [&tokens[5..15], &tokens[..7]];
    for capturing in [false, true] {
        let mut heard = Vec::new();
        let mut go_on = |done: usize, all: usize| {
            heard.push((done, all));
            heard.len() < 3
        };
        let model = worker.model();
        let error = if capturing {
            model.prefill_capturing_batch_while(&prompts, &mut caches, &options, &mut go_on).unwrap_err()
        } else {
            model.prefill_batch_while(&prompts, &mut caches, &options, &mut go_on).unwrap_err()
        };
        assert!(matches!(error, Error::Interrupted), "{error}");
        assert_eq!((heard.len(), heard[2].1), (3, 17));
        for (cache, before) in caches.iter().zip(&before) {
            same_contents(cache, before, 0.0);
        }
    }
    // What is said after the last pass comes too late.
    let read_all =
        worker.model().prefill_batch_while(&prompts, &mut caches, &options, &mut |done, all| done < all);
    assert_eq!(read_all.unwrap().len(), 2);
    assert_eq!(caches.each_ref().map(KvCache::logical_len), [15, 7]);
}

#[test]
fn runs_are_the_pieces_of_a_cache() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let mut cache = worker.model().new_cache();
    assert_eq!(cache.runs(), 0);
    worker.model().forward(&tokens[..5], &mut cache).unwrap();
    let fork = cache.fork();
    worker.model().forward(&tokens[5..9], &mut cache).unwrap();
    assert_eq!((cache.runs(), fork.runs()), (1, 1));
    let layers = cache.layers_range(2, 4).unwrap();
    cache.append_layers(&layers, 2).unwrap();
    worker.model().forward(&tokens[..1], &mut cache).unwrap();
    assert_eq!(cache.runs(), 3);
}
