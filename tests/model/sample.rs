//! Sampling against candle-transformers: the same tokens for the same seeds.

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use lb_model::{GenerateOptions, Sampler};

use crate::support::caches::{noise, rng};

/// Tokens drawn one after the other with each seed.
const DRAWS: usize = 40;

/// The options, and what they are there.
fn cases(vocab: usize) -> Vec<(GenerateOptions, Sampling)> {
    let mut cases = Vec::new();
    for temperature in [0.05, 0.7, 1.0, 3.0] {
        let ks = [None, Some(1), Some(2), Some(40), Some(vocab - 1), Some(vocab), Some(vocab + 7)];
        for top_k in ks {
            for top_p in [None, Some(1e-6), Some(0.3), Some(0.9), Some(0.999_999_9), Some(1.0)] {
                let theirs = match (top_k, top_p) {
                    (None, None) => Sampling::All { temperature },
                    (Some(k), None) => Sampling::TopK { k, temperature },
                    (None, Some(p)) => Sampling::TopP { p, temperature },
                    (Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
                };
                let temperature = Some(temperature);
                cases.push((
                    GenerateOptions { temperature, top_k, top_p, ..GenerateOptions::default() },
                    theirs,
                ));
            }
        }
    }
    cases.push((GenerateOptions::default(), Sampling::ArgMax));
    cases.push((GenerateOptions { temperature: Some(0.0), ..GenerateOptions::default() }, Sampling::ArgMax));
    cases
}

/// Rows `[vocab]`: noise of several widths, one of a few levels so that many are equal, one alike everywhere.
fn logits(vocab: usize) -> Vec<Tensor> {
    let mut rng = rng(5);
    let mut row = |scale| noise(&mut rng, (1, 1, vocab), scale).flatten_all().unwrap();
    let mut rows = vec![row(0.3), row(2.0), row(8.0)];
    rows.push((row(1.0) * 2.0).unwrap().round().unwrap());
    rows.push(Tensor::zeros(vocab, candle_core::DType::F32, &Device::Cpu).unwrap());
    rows
}

#[test]
fn the_same_tokens_as_candle_transformers() {
    let mut distinct = std::collections::BTreeSet::new();
    for vocab in [64, 1000] {
        let rows = logits(vocab);
        for (options, theirs) in cases(vocab) {
            for seed in [0, 7, u64::MAX] {
                let options = GenerateOptions { seed, ..options.clone() };
                let mut ours = Sampler::new(&options).unwrap();
                let mut peer = LogitsProcessor::from_sampling(seed, theirs.clone());
                for draw in 0..DRAWS {
                    let row = &rows[draw % rows.len()];
                    let token = ours.sample(row).unwrap();
                    assert_eq!(token, peer.sample(row).unwrap(), "{vocab}, draw {draw}: {options:?}");
                    distinct.insert(token);
                }
            }
        }
    }
    assert!(distinct.len() > 400, "only {} different tokens were drawn", distinct.len());
}

#[test]
fn what_has_no_probabilities_is_an_error() {
    let options = |temperature| GenerateOptions { temperature, ..GenerateOptions::default() };
    let row = Tensor::new(&[1.0f32, 2.0, 3.0], &Device::Cpu).unwrap();
    let error = Sampler::new(&options(Some(1e-320))).unwrap().sample(&row).unwrap_err();
    assert!(matches!(error, lb_model::Error::Tensor(_)), "{error}");
    let bad = Tensor::new(&[1.0f32, f32::NAN], &Device::Cpu).unwrap();
    let error = Sampler::new(&options(Some(1.0))).unwrap().sample(&bad).unwrap_err();
    assert!(matches!(error, lb_model::Error::NonFinite { .. }), "{error}");
    assert!(Sampler::new(&options(Some(-1.0))).is_err());
}
