//! Models in several GGUF files.

use std::fs;

use lb_model::{Checkpoint, Error, GgufFormat};
use tempfile::TempDir;

use super::gguf::{Written, load, logits};
use crate::support::assert_error;
use crate::support::checkpoints::{TIED, golden, prompt};
use crate::support::gguf_bytes::{Gguf, Value};

fn whole() -> (Written, Vec<f32>) {
    let file = Written::of(&Checkpoint::dir(golden(TIED)).unwrap(), GgufFormat::F16);
    let reference = logits(&file.load(), &prompt(TIED));
    (file, reference)
}

/// Whichever part is opened, all of them are the model; 16-bit tensors are used where they lie in their own part.
#[test]
fn parts_are_the_whole() {
    let (file, reference) = whole();
    for count in [2, 3, 7] {
        let folder = TempDir::new().unwrap();
        let parts = Gguf::read(&file.path()).split(folder.path(), "tiny-f16", count);
        for part in &parts {
            let worker = load(part).unwrap();
            assert_eq!(logits(&worker, &prompt(TIED)), reference, "{}", part.display());
            assert_eq!(worker.name(), "tiny-f16");
        }
    }
}

/// A file that says it is one of one is whole, whatever it is called.
#[test]
fn a_single_part_is_a_file() {
    let (file, reference) = whole();
    let mut gguf = Gguf::read(&file.path());
    gguf.set("split.count", Value::U32(1));
    gguf.write(&file.path());
    assert_eq!(logits(&file.load(), &prompt(TIED)), reference);
}

#[test]
fn parts_that_are_missing_or_others_are_named() {
    let (file, _) = whole();
    let folder = TempDir::new().unwrap();
    let parts = Gguf::read(&file.path()).split(folder.path(), "tiny", 4);
    let error = |path| load(path).unwrap_err();
    let kept = fs::read(&parts[0]).unwrap();
    for missing in [0, 2] {
        fs::remove_file(&parts[missing]).unwrap();
    }
    assert_error!(
        error(&parts[1]),
        Error::MissingParts { count: 4, .. },
        "tiny-00001-of-00004.gguf, tiny-00003-of-00004.gguf"
    );
    // A part twice under two names.
    fs::write(&parts[0], &kept).unwrap();
    fs::copy(&parts[1], &parts[2]).unwrap();
    assert_error!(error(&parts[0]), Error::Corrupt { .. }, "tiny-00003-of-00004.gguf", "its name");
    // Without the names that say which parts there are.
    let renamed = folder.path().join("model.gguf");
    fs::write(&renamed, &kept).unwrap();
    assert_error!(error(&renamed), Error::UnsupportedConfig { .. }, "split.count", "-00001-of-0000N");
    // Parts of two models: a tensor is there twice.
    let parts = Gguf::read(&file.path()).split(folder.path(), "twice", 2);
    let mut second = Gguf::read(&parts[1]);
    let first = Gguf::read(&parts[0]);
    second.tensors = first.tensors.clone();
    second.data = first.data.clone();
    second.write(&parts[1]);
    assert_error!(error(&parts[0]), Error::Corrupt { .. }, "twice-00002-of-00002", "earlier part");
}
