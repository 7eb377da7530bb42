//! Caches on disk.

use std::fs;

use candle_core::{Device, Tensor};
use lb_am::LayerKv;
use lb_model::{Error, KvCache, Worker};
use tempfile::TempDir;

use crate::support::checkpoints::{GROUPED, TIED, golden, prompt, worker};
use crate::support::compare::assert_same;

/// 30 positions compacted to 8 biased slots (one of them padding), then 20 tokens read behind them.
fn briefing(worker: &Worker, tokens: &[u32]) -> KvCache {
    let mut full = worker.model().new_cache();
    worker.model().forward(&tokens[..30], &mut full).unwrap();
    let compacted = |l: LayerKv| {
        let bias: Vec<f32> =
            (0..l.kv_heads() * 8).map(|i| if i == 3 { f32::NEG_INFINITY } else { i as f32 / 9.0 }).collect();
        let bias = Tensor::from_vec(bias, (l.kv_heads(), 8), &Device::Cpu).unwrap();
        LayerKv::new(l.keys.narrow(1, 4, 8).unwrap(), l.values.narrow(1, 4, 8).unwrap(), Some(bias)).unwrap()
    };
    let layers: Vec<LayerKv> = full.layers().unwrap().into_iter().map(compacted).collect();
    let mut cache = worker.model().new_cache();
    cache.append_layers(&layers, 30).unwrap();
    worker.model().forward(&tokens[30..50], &mut cache).unwrap();
    cache
}

fn decodes_the_same(worker: &Worker, mut a: KvCache, mut b: KvCache, tokens: &[u32]) {
    assert_eq!((a.logical_len(), a.slots(), a.bytes()), (b.logical_len(), b.slots(), b.bytes()));
    for part in [&tokens[50..60], &tokens[60..61], &tokens[61..62]] {
        let logits = worker.model().forward(part, &mut a).unwrap();
        assert_same(&logits, &worker.model().forward(part, &mut b).unwrap());
    }
    assert_eq!(a.logical_len(), b.logical_len());
}

#[test]
fn a_saved_and_loaded_cache_decodes_identically() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cache.safetensors");
    for name in [TIED, GROUPED] {
        let (worker, tokens) = (worker(name), prompt(name));
        let load = || KvCache::load(&path, worker.config(), &Device::Cpu).unwrap();

        let cache = briefing(&worker, &tokens);
        cache.save(&path).unwrap();
        assert_eq!((load().logical_len(), load().slots()), (50, 28));
        let mut cut = load();
        assert!(matches!(cut.truncate(29), Err(Error::Cache { .. })), "compacted slots cannot be cut");
        cut.truncate(30).unwrap();
        decodes_the_same(&worker, cache, load(), &tokens);

        let forked = briefing(&worker, &tokens).fork();
        forked.save(&path).unwrap();
        decodes_the_same(&worker, forked, load(), &tokens);

        let mut plain = worker.model().new_cache();
        worker.model().forward(&tokens[..50], &mut plain).unwrap();
        plain.save(&path).unwrap();
        decodes_the_same(&worker, plain, load(), &tokens);

        worker.model().new_cache().save(&path).unwrap();
        assert!(load().is_empty());
    }
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left, ["cache.safetensors"], "no temporary file stays");
}

#[test]
fn a_cache_file_that_does_not_fit_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cache.safetensors");
    let (worker, other) = (worker(TIED), worker(GROUPED));
    briefing(&worker, &prompt(TIED)).save(&path).unwrap();
    let load = |path: &std::path::Path| KvCache::load(path, worker.config(), &Device::Cpu);

    let error = KvCache::load(&path, other.config(), &Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::Cache { .. }), "{error}");
    let error = load(&golden("tiny_tied/model.safetensors")).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let error = load(&dir.path().join("nothing")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let error = briefing(&worker, &prompt(TIED)).save(dir.path().join("no/folder")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");

    let bytes = fs::read(&path).unwrap();
    for len in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{len} bytes: {error}");
    }
    // A NaN in place of the last stored number; the header comes first, so the end is data.
    let mut nan = bytes.clone();
    let end = nan.len() - 4;
    nan[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, nan).unwrap();
    let error = load(&path).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    // A header that promises another length.
    let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
    let at = 8 + text.find("logical_len").unwrap() + "logical_len\\\":".len();
    assert_eq!(&bytes[at..at + 2], b"50");
    let mut longer = bytes.clone();
    longer[at..at + 2].copy_from_slice(b"51");
    fs::write(&path, longer).unwrap();
    let error = load(&path).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}
