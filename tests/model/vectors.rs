//! Vectors that are read in the place of tokens, and their files.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use lb_model::{Error, InputVectors, KvCache, PrefillOptions, Worker};

use crate::support::checkpoints::{GROUPED, TIED, prompt, worker};
use crate::support::compare::{F32, assert_close, assert_same, flat};

fn behind(worker: &Worker, tokens: &[u32]) -> KvCache {
    let mut cache = worker.model().new_cache();
    worker.model().forward(tokens, &mut cache).unwrap();
    cache
}

/// Embeddings are scaled in Gemma's family, and some of its layers have windows.
#[test]
fn embeddings_of_tokens_are_read_as_the_tokens_are() {
    for name in [TIED, GROUPED, "gemma3", "llama3", "qwen3_moe"] {
        let (worker, tokens) = (worker(name), prompt(name));
        let model = worker.model();
        let (before, rest) = tokens.split_at(tokens.len() / 2);
        let read = &rest[..5];
        let mut caches = [behind(&worker, before), behind(&worker, &before[..7])];
        let mut twins = caches.each_ref().map(KvCache::fork);
        let vectors = model.embeddings(read).unwrap();
        let queries = model.capture_vectors(&vectors, &mut caches).unwrap();
        let again = model.capture_vectors(&vectors, &mut twins.each_ref().map(KvCache::fork)).unwrap();
        for ((queries, again), (cache, twin)) in queries.iter().zip(&again).zip(caches.iter().zip(&mut twins))
        {
            let options = PrefillOptions::default();
            let alone = model.capture_vectors(&vectors, &mut [twin.fork()]).unwrap().remove(0);
            let expected = model.prefill_capturing(read, twin, &options, &mut |_, _| {}).unwrap().queries;
            assert_eq!(queries.len(), expected.len());
            for (((queries, again), alone), expected) in queries.iter().zip(again).zip(&alone).zip(&expected)
            {
                assert_eq!(queries.dims(), expected.dims(), "{name}");
                assert_same(alone, expected);
                assert_close(&flat(queries), &flat(expected), F32);
                // Reading vectors leaves them as they are.
                assert_same(queries, again);
            }
            assert_eq!(cache.logical_len(), twin.logical_len());
            for (own, twin) in cache.layers().unwrap().iter().zip(&twin.layers().unwrap()) {
                assert_close(&flat(&own.keys), &flat(&twin.keys), F32);
                assert_close(&flat(&own.values), &flat(&twin.values), F32);
            }
        }
    }
}

#[test]
fn what_cannot_be_read_leaves_caches_as_they_are() {
    let (worker, tokens) = (worker(TIED), prompt(TIED));
    let (model, hidden) = (worker.model(), worker.config().hidden_size);
    let mut caches = [behind(&worker, &tokens[..3])];
    for shape in [vec![2, hidden + 1], vec![0, hidden], vec![hidden]] {
        let vectors = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let error = model.capture_vectors(&vectors, &mut caches).unwrap_err();
        assert!(matches!(error, Error::Shape { arg: "vectors", .. }), "{error}");
    }
    let limit = worker.config().position_limit();
    let vectors = Tensor::zeros((limit - 2, hidden), DType::F32, &Device::Cpu).unwrap();
    let error = model.capture_vectors(&vectors, &mut caches).unwrap_err();
    let Error::Sequence { index: 0, source } = error else { panic!("{error}") };
    assert!(matches!(*source, Error::ContextOverflow { .. }), "{source}");
    assert_eq!(caches[0].logical_len(), 3);
    assert!(model.capture_vectors::<KvCache>(&vectors, &mut []).unwrap().is_empty());
    assert!(matches!(model.embeddings(&[u32::MAX]), Err(Error::TokenRange { .. })));
}

#[test]
fn files_come_back_as_they_were_written() {
    let worker = worker(TIED);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.safetensors");
    let mut vectors = InputVectors::new(worker.model().embeddings(&[1, 2, 3]).unwrap());
    (vectors.model, vectors.trained_on) = ("tiny".into(), "nothing".into());
    vectors.save(&path, worker.model()).unwrap();
    let read = InputVectors::load(&path, worker.model()).unwrap();
    assert_eq!((read.count(), &*read.model, &*read.trained_on), (3, "tiny", "nothing"));
    assert_same(read.rows(), vectors.rows());
}

/// Writes a file with these vectors and probe.
fn file(path: &Path, format: &str, tensors: Vec<(&str, Tensor)>) {
    let metadata = [("format", format), ("model", "tiny")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    safetensors::serialize_to_file(tensors, Some(metadata.into()), path).unwrap();
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let worker = worker(TIED);
    let (model, hidden) = (worker.model(), worker.config().hidden_size);
    let folder = tempfile::tempdir().unwrap();
    let path = &folder.path().join("vectors.safetensors");
    let zeros = |rows: usize, width: usize| Tensor::zeros((rows, width), DType::F32, &Device::Cpu).unwrap();
    let (probe, format) = (model.probe().unwrap(), "latent-briefing-vectors-1");
    let refused = |word: &str| {
        let error = InputVectors::load(path, model).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(word) && said.contains("vectors.safetensors"), "{said} does not name {word}");
        error
    };

    assert!(matches!(refused(""), Error::Io { .. }));
    for (rows, width) in [(2, hidden + 8), (0, hidden), (257, hidden)] {
        file(path, format, vec![("vectors", zeros(rows, width)), ("probe", probe.clone())]);
        let error = refused("`vectors`");
        let Error::TensorShape { expected, .. } = error else { panic!("{error}") };
        assert_eq!(expected, [rows.clamp(1, 256), hidden]);
    }
    file(path, format, vec![("probe", probe.clone())]);
    assert!(matches!(refused("`vectors`"), Error::MissingTensor { .. }));
    file(path, format, vec![("vectors", zeros(2, hidden))]);
    assert!(matches!(refused("`probe`"), Error::MissingTensor { .. }));
    let nan = (zeros(2, hidden) * f64::NAN).unwrap();
    file(path, format, vec![("vectors", nan), ("probe", probe.clone())]);
    assert!(matches!(refused("`vectors`"), Error::NonFinite { .. }));
    let codes = zeros(2, hidden).to_dtype(DType::U8).unwrap();
    file(path, format, vec![("vectors", codes), ("probe", probe.clone())]);
    assert!(matches!(refused("`vectors`"), Error::TensorDtype { .. }));
    for other in [zeros(probe.dims()[0], probe.dims()[1]), probe.neg().unwrap()] {
        file(path, format, vec![("vectors", zeros(2, hidden)), ("probe", other)]);
        assert!(matches!(refused("tiny"), Error::OtherModel { field: "probe", .. }));
    }
    file(path, "latent-briefing-vectors-9", vec![("vectors", zeros(2, hidden)), ("probe", probe.clone())]);
    assert!(matches!(refused("`format`"), Error::Corrupt { .. }));

    // What rounding to few bits does to a probe tells no models apart.
    let rounded = probe.to_dtype(DType::F16).unwrap();
    let noise = (probe.abs().unwrap() * 0.05).unwrap().to_dtype(DType::F16).unwrap();
    file(path, format, vec![("vectors", zeros(2, hidden)), ("probe", (rounded + noise).unwrap())]);
    assert_eq!(InputVectors::load(path, model).unwrap().count(), 2);
    let whole = std::fs::read(path).unwrap();
    for len in [4, 40, whole.len() - 10] {
        std::fs::write(path, &whole[..len]).unwrap();
        assert!(matches!(refused(""), Error::Corrupt { .. }));
    }
}
