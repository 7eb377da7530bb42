//! The path with gradients gives the decoder's logits.

use candle_core::{DType, Tensor};
use lb_model::{Differentiable, Error, Past, Worker};

use crate::support::checkpoints::{GROUPED, TIED, prompt, worker};
use crate::support::compare::{F32, assert_close, flat};
use crate::support::embedded;
use crate::support::random_checkpoint::Random;

/// The built-in worker's weights are bf16, its logits of about ±20, six layers of sums in another order.
const WORKER: f64 = 1e-3;

fn alike(worker: &Worker, tokens: &[u32], tolerance: f64) {
    let (model, path) = (worker.model(), Differentiable::of(worker.model(), DType::F32).unwrap());
    let mut cache = model.new_cache();
    let expected = model.forward_all(tokens, &mut cache).unwrap();
    // Sums in another order differ by a part of the largest logit.
    let largest = flat(&expected).into_iter().map(f64::abs).fold(1.0, f64::max);
    let tolerance = tolerance * largest;
    eprintln!("largest logit {largest}");
    let rows = path.embeddings(tokens).unwrap();
    let found = path.logits(&rows, None, tokens.len()).unwrap();
    assert_eq!(found.dims(), expected.dims());
    assert_close(&flat(&found), &flat(&expected), tolerance);
    // The last rows alone.
    let last = path.logits(&rows, None, 2).unwrap();
    assert_close(&flat(&last), &flat(&expected.narrow(0, tokens.len() - 2, 2).unwrap()), tolerance);

    // The second half behind a cache with biases.
    let (before, rest) = tokens.split_at(tokens.len() / 2);
    let mut cache = model.new_cache();
    model.forward(before, &mut cache).unwrap();
    let mut layers = cache.layers().unwrap();
    for (number, layer) in layers.iter_mut().enumerate() {
        let (heads, slots) = (layer.kv_heads(), layer.seq_len());
        let bias: Vec<f32> = (0..heads * slots).map(|i| ((i + number) as f32 * 1.7).sin()).collect();
        layer.bias = Some(Tensor::from_vec(bias, (heads, slots), worker.device()).unwrap());
    }
    let mut biased = lb_model::KvCache::empty_like(&cache);
    biased.append_layers(&layers, before.len()).unwrap();
    let expected = model.forward_all(rest, &mut biased).unwrap();
    let past = Past { layers, positions: before.len() };
    let found = path.logits(&path.embeddings(rest).unwrap(), Some(&past), rest.len()).unwrap();
    assert_close(&flat(&found), &flat(&expected), tolerance);
}

#[test]
fn logits_are_those_of_the_decoder() {
    for name in [
        TIED,
        GROUPED,
        "qwen2_tied",
        "qwen2_untied",
        "llama3",
        "llama_bias",
        "llama_linear",
        "mistral",
        "qwen3_yarn",
    ] {
        eprintln!("{name}");
        alike(&worker(name), &prompt(name), F32);
    }
    for family in ["qwen3", "qwen2", "llama", "mistral"] {
        eprintln!("{family}");
        let folder = Random::of(family);
        alike(&Worker::load(folder.path()).unwrap(), &[3, 77, 400, 12, 9, 250, 31, 5], F32);
    }
}

#[test]
fn logits_are_those_of_the_built_in_worker() {
    let text = "The Velmar ledger is kept by Anara. The Oslund beacon is in the harbour.";
    alike(embedded(), &embedded().tokenizer().encode_text(text).unwrap(), WORKER);
}

/// Vectors that are read by the decoder, and what it says behind them.
#[test]
fn the_decoder_reads_vectors_as_the_path_does() {
    let worker = worker(TIED);
    let (model, path) = (worker.model(), Differentiable::of(worker.model(), DType::F32).unwrap());
    let rows = (path.embeddings(&[1, 2, 3]).unwrap() * 0.7).unwrap();
    let mut cache = model.new_cache();
    let found = model.forward_vectors(&rows, &mut cache).unwrap();
    assert_eq!((cache.logical_len(), found.dims()), (3, &[worker.config().vocab_size][..]));
    assert_close(&flat(&found), &flat(&path.logits(&rows, None, 1).unwrap()), F32);
    let wide = Tensor::zeros((1, worker.config().hidden_size + 1), DType::F32, worker.device()).unwrap();
    assert!(matches!(model.forward_vectors(&wide, &mut cache), Err(Error::Shape { arg: "vectors", .. })));
    let many = Tensor::zeros(
        (worker.config().position_limit(), worker.config().hidden_size),
        DType::F32,
        worker.device(),
    );
    let error = model.forward_vectors(&many.unwrap(), &mut cache).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { .. }), "{error}");
    assert_eq!(cache.logical_len(), 3);
}

#[test]
fn what_has_no_path_is_refused_by_name() {
    let tiny = worker(TIED);
    let refused = |worker: &Worker, dtype, field: &str| {
        let error = Differentiable::of(worker.model(), dtype).unwrap_err();
        assert!(matches!(error, Error::Config { field: f, .. } if f == field), "{error}");
    };
    refused(&tiny, DType::BF16, "dtype");
    refused(&worker("gemma3"), DType::F32, "family");
    refused(&worker("qwen3_moe"), DType::F32, "family");
    let path = Differentiable::of(tiny.model(), DType::F32).unwrap();
    let rows = path.embeddings(&[1, 2]).unwrap();
    for wanted in [0, 3] {
        assert!(matches!(path.logits(&rows, None, wanted), Err(Error::Shape { arg: "rows", .. })));
    }
    let past = Past { layers: Vec::new(), positions: 1 };
    assert!(matches!(path.logits(&rows, Some(&past), 1), Err(Error::Shape { arg: "past", .. })));
    let mut cache = tiny.model().new_cache();
    tiny.model().forward(&[1], &mut cache).unwrap();
    let past = Past { layers: cache.layers().unwrap(), positions: tiny.config().position_limit() - 1 };
    assert!(matches!(path.logits(&rows, Some(&past), 1), Err(Error::ContextOverflow { .. })));
    assert!(matches!(path.embeddings(&[u32::MAX]), Err(Error::TokenRange { .. })));
}
