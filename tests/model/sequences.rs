//! Answers that come and go: each writes what it would write alone.

use std::collections::HashMap;

use candle_core::Tensor;
use latent_briefing::model::{
    Error, GenerateOptions, KvCache, Lookup, Message, RenderOptions, SequenceId, Sequences, StopReason,
    Worker,
};

use crate::support::checkpoints::{TIED, prompt, worker};
use crate::support::{assert_error, embedded};

const MOST: usize = 12;

fn begun(worker: &Worker, tokens: &[u32]) -> (KvCache, Tensor) {
    let mut cache = worker.model().new_cache();
    let logits = worker.model().forward(tokens, &mut cache).unwrap();
    (cache, logits)
}

#[test]
fn sequences_join_between_steps_and_write_what_they_would_alone() {
    let worker = worker(TIED);
    let tokens = prompt(TIED);
    let cases: Vec<(usize, GenerateOptions)> = vec![
        (40, GenerateOptions::greedy(MOST)),
        (17, GenerateOptions { temperature: Some(0.9), seed: 5, ..GenerateOptions::greedy(MOST) }),
        (33, GenerateOptions::greedy(1)),
        (
            25,
            GenerateOptions {
                temperature: Some(0.7),
                seed: 1,
                top_p: Some(0.9),
                ..GenerateOptions::greedy(7)
            },
        ),
    ];
    let alone: Vec<Vec<u32>> = cases
        .iter()
        .map(|(len, options)| {
            let (mut cache, logits) = begun(&worker, &tokens[..*len]);
            let written = worker.generate_from_logits(&mut cache, &logits, options, &mut |_, _| true);
            written.unwrap().tokens
        })
        .collect();
    for guessed in [false, true] {
        let mut sequences = Sequences::new(&worker);
        let mut ids: HashMap<SequenceId, usize> = HashMap::new();
        let mut heard = vec![Vec::new(); cases.len()];
        let mut ended = vec![None; cases.len()];
        let (mut joined, mut steps) = (0, 0);
        while ended.iter().any(Option::is_none) {
            // One more after every second step.
            if joined < cases.len() && steps % 2 == 0 {
                let (len, options) = &cases[joined];
                let (cache, logits) = begun(&worker, &tokens[..*len]);
                let mut lookup = Lookup::owning(
                    vec![tokens.clone()],
                    alone[joined][..3.min(alone[joined].len())].to_vec(),
                );
                let guess = Box::new(move |written: &[u32], most: usize| lookup.guess(written, most));
                let id = if guessed {
                    sequences.join(cache, logits, options, Some(guess))
                } else {
                    sequences.join(cache, logits, options, None)
                };
                ids.insert(id.unwrap(), joined);
                joined += 1;
            }
            let done = sequences.step(&mut |chosen| {
                heard[ids[&chosen.id]].push(chosen.token);
                let (own, best) = chosen.log_probs(2).unwrap();
                assert!(own <= best[0].1 && best[0].1 >= best[1].1 && best[0].1 <= 0.0);
                true
            });
            for end in done.unwrap() {
                let generation = end.generation.unwrap();
                assert_eq!(end.cache.logical_len() + 1, cases[ids[&end.id]].0 + generation.tokens.len());
                ended[ids[&end.id]] = Some(generation.tokens);
            }
            steps += 1;
        }
        let ended: Vec<Vec<u32>> = ended.into_iter().flatten().collect();
        assert_eq!((&ended, &heard), (&alone, &alone), "guessed: {guessed}");
        assert!(sequences.is_empty());
    }
}

#[test]
fn a_sequence_leaves_and_one_at_fault_ends_alone() {
    let worker = worker(TIED);
    let tokens = prompt(TIED);
    let vocab = worker.config().vocab_size as u32;
    let mut sequences = Sequences::new(&worker);
    let join = |sequences: &mut Sequences<'_>| {
        let (cache, logits) = begun(&worker, &tokens[..20]);
        sequences.join(cache, logits, &GenerateOptions::greedy(MOST), None).unwrap()
    };
    let (leaves, stays) = (join(&mut sequences), join(&mut sequences));
    let (cache, logits) = begun(&worker, &tokens[..20]);
    // Guesses what is no token.
    let wrong = Box::new(move |_: &[u32], _: usize| vec![vocab]);
    let faulty = sequences.join(cache, logits, &GenerateOptions::greedy(MOST), Some(wrong)).unwrap();
    let ended = sequences.step(&mut |_| true).unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].id, faulty);
    assert_error!(
        ended[0].generation.as_ref().unwrap_err(),
        Error::TokenRange { .. },
        "beyond the vocabulary"
    );
    let left = sequences.leave(leaves).unwrap();
    let left = left.generation.unwrap();
    assert_eq!((left.stopped, left.tokens.len()), (StopReason::Callback, 1));
    assert!(sequences.leave(leaves).is_none());
    assert_eq!(sequences.len(), 1);
    let ended = sequences.step(&mut |chosen| chosen.id != stays).unwrap();
    assert_eq!((ended[0].id, ended[0].generation.as_ref().unwrap().stopped), (stays, StopReason::Callback));

    let (cache, logits) = begun(&worker, &tokens[..20]);
    let none = GenerateOptions::greedy(0);
    assert_error!(
        sequences.join(cache, logits, &none, None).unwrap_err(),
        Error::Config { .. },
        "max_new_tokens"
    );
    let (cache, _) = begun(&worker, &tokens[..20]);
    let other = Tensor::zeros(3, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let refused = sequences.join(cache, other, &GenerateOptions::greedy(1), None).unwrap_err();
    assert_error!(refused, Error::Shape { .. }, "logits");
}

#[test]
fn an_end_that_is_not_heeded_is_a_token_without_text() {
    let worker = embedded();
    let question = [Message::new("user", "Who keeps the Oslo ledger?")];
    let prompt = worker.encode_conversation(&question, &RenderOptions::default()).unwrap();
    let heeding = GenerateOptions::greedy(200);
    let on = GenerateOptions { heeds_end: false, ..heeding.clone() };
    let write = |options: &GenerateOptions| {
        let mut heard = String::new();
        let mut cache = worker.model().new_cache();
        let hear = &mut |_: u32, text: &str| {
            heard.push_str(text);
            true
        };
        let written = worker.generate(&mut cache, &prompt, options, hear).unwrap();
        (written, heard)
    };
    let ((short, _), (long, heard)) = (write(&heeding), write(&on));
    assert_eq!(short.stopped, StopReason::Eos);
    assert_eq!((long.stopped, long.tokens.len()), (StopReason::MaxTokens, 200));
    assert!(long.tokens.starts_with(&short.tokens));
    assert!(long.tokens.iter().any(|token| worker.tokenizer().eos_ids().contains(token)));
    // A character that is not finished is heard of by nobody.
    assert!(long.text.starts_with(&heard), "{heard}");
}

#[test]
fn a_checkpoint_is_known_by_its_files() {
    let one = embedded().fingerprint().unwrap();
    assert_eq!(one, Worker::embedded().unwrap().fingerprint().unwrap());
    let other = worker(TIED);
    let other = other.fingerprint().unwrap();
    assert_ne!((&one.weights, &one.tokenizer), (&other.weights, &other.tokenizer));
    for digest in [&one.weights, &one.tokenizer, &one.template] {
        assert_eq!(digest.len(), 64);
    }
}
