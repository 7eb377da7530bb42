//! Files cut short and bytes flipped, 200 places in each: a checkpoint or a typed error, never anything else.

use std::fs;
use std::path::Path;

use candle_core::Device;
use lb_model::{KvCache, Worker};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::support::checkpoints::{Copy, GROUPED, TIED, prompt, worker};

const PLACES: usize = 200;

/// Calls `load` for `file` spoilt in many ways, and says how often it was refused. `heavy` bytes at the start, where
/// headers lie, get half of the places.
fn spoil(file: &Path, heavy: usize, seed: u64, load: &mut dyn FnMut() -> bool) -> usize {
    let whole = fs::read(file).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut refused = 0;
    for place in 0..PLACES {
        let within = if place % 2 == 0 { heavy.min(whole.len()) } else { whole.len() };
        let at = rng.random_range(0..within);
        let mut bytes = whole.clone();
        if place % 4 < 2 {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
        fs::write(file, bytes).unwrap();
        refused += usize::from(!load());
    }
    fs::write(file, whole).unwrap();
    assert!(load(), "the file is whole again");
    refused
}

/// Loads and, where that succeeds, reads a few tokens: what was accepted must also run.
fn runs(folder: &Path) -> bool {
    match Worker::load(folder) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
        Ok(worker) => worker.model().forward(&[1, 2, 3], &mut worker.model().new_cache()).is_ok(),
    }
}

#[test]
fn spoilt_checkpoints_are_refused_or_run() {
    let files = [
        (TIED, "model.safetensors", 3000),
        (GROUPED, "model-00001-of-00003.safetensors", 1000),
        (GROUPED, "model.safetensors.index.json", 3000),
        ("qwen3_moe", "config.json", 2000),
        ("qwen3_yarn", "config.json", 2000),
        (TIED, "tokenizer.json", 4000),
        (TIED, "tokenizer_config.json", 1000),
        (TIED, "generation_config.json", 200),
        (TIED, "chat_template.jinja", 2000),
    ];
    for (seed, (name, file, heavy)) in (1..).zip(files) {
        let copy = Copy::of(name);
        let folder = copy.file("");
        let refused = spoil(&copy.file(file), heavy, seed, &mut || runs(&folder));
        // Every file cut short is refused, but for the optional ones.
        let least = match file {
            "chat_template.jinja" => 10,
            "generation_config.json" => 0,
            _ => PLACES / 3,
        };
        assert!(refused >= least, "{name}/{file}: only {refused} refused");
    }
}

#[test]
fn spoilt_caches_are_refused_or_run() {
    let worker = worker(TIED);
    let mut cache = worker.model().new_cache();
    worker.model().forward(&prompt(TIED)[..20], &mut cache).unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("cache.safetensors");
    cache.save(&file).unwrap();
    let mut load = || match KvCache::load(&file, worker.config(), &Device::Cpu) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
        Ok(mut cache) => worker.model().forward(&[1], &mut cache).is_ok(),
    };
    assert!(spoil(&file, 3000, 99, &mut load) >= PLACES / 2);
}
