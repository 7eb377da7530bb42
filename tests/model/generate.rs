//! Generation: greedy, sampled, and every way to stop.

use candle_core::{Device, Tensor};
use lb_model::{Error, GenerateOptions, Generation, StopReason, Worker};

use crate::support::checkpoints::{Copy, GROUPED, TIED, golden_json, ids, prompt, worker};

fn run(worker: &Worker, options: &GenerateOptions) -> Generation {
    let tokens = prompt(TIED);
    worker.generate(&mut worker.model().new_cache(), &tokens, options, &mut |_, _| true).unwrap()
}

/// A checkpoint that generates like `name` and never ends by itself.
fn endless(name: &str) -> Worker {
    let copy = Copy::of(name);
    copy.edit_json("config.json", |c| c["eos_token_id"] = serde_json::Value::Null);
    copy.edit_json("generation_config.json", |c| c["eos_token_id"] = serde_json::Value::Null);
    copy.edit_json("tokenizer_config.json", |c| drop(c.as_object_mut().unwrap().remove("eos_token")));
    copy.load()
}

#[test]
fn greedy_generation_is_that_of_transformers() {
    for name in [TIED, GROUPED] {
        let (worker, expected) = (endless(name), golden_json(name));
        let tokens = prompt(name);
        let mut cache = worker.model().new_cache();
        let mut heard = (Vec::new(), String::new());
        let generation = worker
            .generate(&mut cache, &tokens, &GenerateOptions::greedy(64), &mut |token, text| {
                heard.0.push(token);
                heard.1.push_str(text);
                true
            })
            .unwrap();
        assert_eq!(generation.tokens, ids(&expected["greedy"]));
        assert_eq!(generation.stopped, StopReason::MaxTokens);
        assert_eq!(heard.0, generation.tokens);
        assert!(
            generation.text.starts_with(&heard.1),
            "{:?} is what was heard of {:?}",
            heard.1,
            generation.text
        );
        assert!(generation.text.chars().count() <= heard.1.chars().count() + 3);
        assert_eq!(generation.text, worker.tokenizer().decode(&generation.tokens).unwrap());
        assert_eq!(cache.logical_len(), tokens.len() + 63, "the last token is not read");
        assert!(generation.prefill.as_nanos() > 0 && generation.decode.as_nanos() > 0);
    }
}

#[test]
fn generation_from_logits_continues_a_cache() {
    let worker = endless(TIED);
    let tokens = prompt(TIED);
    let options = GenerateOptions::greedy(20);
    let expected = run(&worker, &options);
    let mut cache = worker.model().new_cache();
    let logits = worker.model().forward(&tokens, &mut cache).unwrap();
    let generation = worker.generate_from_logits(&mut cache, &logits, &options, &mut |_, _| true).unwrap();
    assert_eq!(generation.tokens, expected.tokens);
    assert!(generation.prefill.is_zero());

    let generate = |logits: &Tensor, cache: &mut _| {
        worker.generate_from_logits(cache, logits, &options, &mut |_, _| true)
    };
    let error = generate(&Tensor::zeros(7, logits.dtype(), &Device::Cpu).unwrap(), &mut cache).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "logits", .. }), "{error}");
    let error = generate(&(logits * f64::NAN).unwrap(), &mut cache).unwrap_err();
    assert!(matches!(&error, Error::NonFinite { tensor, .. } if tensor == "logits"), "{error}");
    let error = worker.generate(&mut cache, &[], &options, &mut |_, _| true).unwrap_err();
    assert!(matches!(error, Error::Empty { arg: "tokens" }), "{error}");
}

#[test]
fn every_way_to_stop() {
    let worker = endless(TIED);
    let greedy = run(&worker, &GenerateOptions::greedy(30)).tokens;
    let first = |token: u32| greedy.iter().position(|&t| t == token).unwrap();

    let stop = GenerateOptions { stop_tokens: vec![greedy[10]], ..GenerateOptions::greedy(30) };
    let generation = run(&worker, &stop);
    assert_eq!(generation.stopped, StopReason::Eos);
    assert_eq!(generation.tokens, greedy[..first(greedy[10])], "the stop token is not part of the answer");

    let copy = Copy::of(TIED);
    copy.edit_json("generation_config.json", |c| c["eos_token_id"] = serde_json::json!([302, greedy[5]]));
    let generation = run(&copy.load(), &GenerateOptions::greedy(30));
    assert_eq!((generation.stopped, generation.tokens.len()), (StopReason::Eos, first(greedy[5])));

    let mut count = 0;
    let mut cache = worker.model().new_cache();
    let generation = worker
        .generate(&mut cache, &prompt(TIED), &GenerateOptions::greedy(30), &mut |_, _| {
            count += 1;
            count < 4
        })
        .unwrap();
    assert_eq!((generation.stopped, &generation.tokens[..]), (StopReason::Callback, &greedy[..4]));

    let copy = Copy::of(TIED);
    copy.edit_json("config.json", |c| c["max_position_embeddings"] = 95.into());
    let full = copy.load();
    let options = GenerateOptions { stop_tokens: Vec::new(), ..GenerateOptions::greedy(30) };
    let generation = run(&full, &options);
    assert_eq!(generation.stopped, StopReason::ContextFull);
    assert_eq!(generation.tokens, greedy[..6], "five positions are read and the sixth token follows");
}

#[test]
fn sampling_follows_its_seed() {
    let worker = endless(TIED);
    let sample = |seed, top_k, top_p| {
        let options =
            GenerateOptions { temperature: Some(3.0), seed, top_k, top_p, ..GenerateOptions::greedy(30) };
        run(&worker, &options).tokens
    };
    let greedy = run(&worker, &GenerateOptions::greedy(30)).tokens;
    assert_eq!(sample(1, None, None), sample(1, None, None));
    assert_ne!(sample(1, None, None), sample(2, None, None));
    assert_eq!(sample(1, Some(1), None), greedy);
    assert_eq!(sample(1, None, Some(1e-6)), greedy);
    assert_eq!(sample(1, Some(5), Some(1e-6)), greedy);
    for (top_k, top_p) in [(None, None), (Some(40), None), (None, Some(0.9))] {
        let cold = GenerateOptions { temperature: Some(0.0), top_k, top_p, ..GenerateOptions::greedy(30) };
        assert_eq!(run(&worker, &cold).tokens, greedy, "0 is greedy");
    }
}

#[test]
fn options_out_of_range_are_named() {
    let base = GenerateOptions { temperature: Some(1.0), ..GenerateOptions::default() };
    let cases = [
        ("max_new_tokens", GenerateOptions { max_new_tokens: 0, ..base.clone() }),
        ("temperature", GenerateOptions { temperature: Some(-0.5), ..base.clone() }),
        ("temperature", GenerateOptions { temperature: Some(f64::NAN), ..base.clone() }),
        ("top_p", GenerateOptions { top_p: Some(0.0), ..base.clone() }),
        ("top_p", GenerateOptions { top_p: Some(1.5), ..base.clone() }),
        ("top_p", GenerateOptions { top_p: Some(0.5), ..GenerateOptions::default() }),
        ("top_k", GenerateOptions { top_k: Some(0), ..base.clone() }),
        ("top_k", GenerateOptions { top_k: Some(3), ..GenerateOptions::default() }),
    ];
    let worker = worker(TIED);
    for (field, options) in cases {
        let mut cache = worker.model().new_cache();
        let error = worker.generate(&mut cache, &[1, 2], &options, &mut |_, _| true).unwrap_err();
        assert!(matches!(&error, Error::Config { field: named, .. } if *named == field), "{field}: {error}");
        assert!(cache.is_empty(), "nothing is read with options that are refused");
    }
    assert!(base.validate().is_ok());
}
