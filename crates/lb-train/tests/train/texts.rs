//! Texts in vectors of the built-in worker, and their files.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use lb_model::{InputVectors, Worker};
use lb_train::{CramStep, CrammedText, Cramming, Error};

use crate::support::checkpoints::{TIED, worker};
use crate::support::compare::assert_same;
use crate::support::embedded;

/// Vectors that hold [`TEXT`].
const VECTORS: usize = 4;
const TEXT: &str = "The Oslo ledger is kept by Ana.";

fn crammed(vectors: usize, steps: usize) -> (lb_train::Crammed, Vec<CramStep>) {
    let mut heard = Vec::new();
    let settings = Cramming { steps, ..Cramming::vectors(vectors) };
    let crammed = settings.run(embedded(), TEXT, &mut |step| {
        heard.push(step);
        true
    });
    (crammed.unwrap(), heard)
}

/// Token for token out of a few vectors, and again from its file.
#[test]
fn a_short_text_comes_back_from_vectors() {
    let worker = embedded();
    let (crammed, heard) = crammed(VECTORS, 1500);
    let text = &crammed.text;
    assert!(text.is_exact(), "{:?} after {} steps", crammed.best, crammed.steps);
    assert_eq!(text.read_back(worker).unwrap(), worker.tokenizer().encode_text(TEXT).unwrap());
    assert_eq!(text.text(worker).unwrap(), TEXT);
    assert_eq!((text.vectors().count(), text.exceptions()), (VECTORS, 0));
    assert_eq!(text.bytes(), VECTORS * worker.config().hidden_size * 4);
    assert_eq!(heard.len(), crammed.steps + 1);
    assert!(heard[0].right < heard[0].tokens && heard[0].loss > crammed.best.loss);
    assert_eq!((crammed.best.right, crammed.best.tokens), (text.tokens(), text.tokens()));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.safetensors");
    text.save(worker, &path).unwrap();
    let again = CrammedText::load(worker, &path).unwrap();
    assert_same(again.vectors().rows(), text.vectors().rows());
    assert_eq!(again.text(worker).unwrap(), TEXT);
    // Its vectors are vectors as any others.
    assert_eq!(InputVectors::load(&path, worker.model()).unwrap().count(), VECTORS);
}

/// The same seed gives the same numbers.
#[test]
fn what_the_vectors_do_not_hold_stands_beside_them() {
    let worker = embedded();
    let (crammed, heard) = crammed(1, 5);
    let text = &crammed.text;
    assert!(!text.is_exact() && crammed.steps == 5 && heard.len() == 6);
    assert_eq!(text.text(worker).unwrap(), TEXT);
    assert_eq!(text.bytes(), worker.config().hidden_size * 4 + 8 * text.exceptions());
    let (again, _) = self::crammed(1, 5);
    assert_same(again.text.vectors().rows(), text.vectors().rows());
    // Called off at once: the first vectors.
    let first = Cramming::default().run(worker, TEXT, &mut |_| false).unwrap();
    assert_eq!((first.steps, first.best), (0, heard[0]));
    assert_eq!(first.text.text(worker).unwrap(), TEXT);
}

#[test]
fn what_cannot_be_crammed_is_said() {
    let worker = embedded();
    let run = |settings: Cramming, text: &str| settings.run(worker, text, &mut |_| true).unwrap_err();
    let refused = |settings: Cramming, name: &str| {
        let error = run(settings, TEXT);
        assert!(matches!(error, Error::Config { field, .. } if field == name), "{error}");
    };
    refused(Cramming::vectors(0), "vectors");
    refused(Cramming::vectors(257), "vectors");
    refused(Cramming { steps: 0, ..Cramming::default() }, "steps");
    for learning_rate in [0.0, -1.0, f64::NAN, 2.0] {
        refused(Cramming { learning_rate, ..Cramming::default() }, "learning_rate");
    }
    assert!(matches!(run(Cramming::default(), ""), Error::Empty { arg: "text" }));
}

#[test]
fn files_that_are_not_this_workers_are_refused() {
    let worker = embedded();
    let (crammed, _) = crammed(1, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = &folder.path().join("text.safetensors");
    crammed.text.save(worker, path).unwrap();
    let whole = std::fs::read(path).unwrap();

    // Another shape, cut short, no text in it.
    let other = support_worker();
    assert!(matches!(CrammedText::load(&other, path), Err(Error::Model(_))));
    for len in [4, 100, whole.len() - 1] {
        std::fs::write(path, &whole[..len]).unwrap();
        let error = CrammedText::load(worker, path).unwrap_err();
        assert!(matches!(error, Error::Model(lb_model::Error::Corrupt { .. })), "{error}");
    }
    crammed.text.vectors().save(path, worker.model()).unwrap();
    let error = CrammedText::load(worker, path).unwrap_err();
    assert!(error.to_string().contains("without a text"), "{error}");

    // What the metadata says is looked at word by word.
    std::fs::write(path, &whole).unwrap();
    let (_, note) = InputVectors::load_with(path, worker.model(), "latent_briefing_crammed").unwrap();
    let note = note.unwrap();
    let tokens = crammed.text.tokens();
    for (from, to, word) in [
        ("\"weights\":\"", "\"weights\":\"0", "weights"),
        ("\"tokenizer\":\"", "\"tokenizer\":\"0", "tokenizer"),
        ("crammed-1", "crammed-9", "format"),
        (&format!("\"tokens\":{tokens}"), "\"tokens\":0", "tokens"),
        (&format!("\"tokens\":{tokens}"), "\"tokens\":100000", "tokens"),
        ("\"exceptions\":[", "\"exceptions\":[[900,1],", "exceptions"),
        ("\"tokens\"", "\"more\":1,\"tokens\"", "more"),
    ] {
        assert!(note.contains(from), "{note}");
        write(path, worker, crammed.text.vectors().rows(), &note.replacen(from, to, 1));
        let error = CrammedText::load(worker, path).unwrap_err();
        assert!(matches!(error, Error::Stored { .. }) && error.to_string().contains(word), "{error}");
    }
    // A digest of another text is found when it is read back.
    write(path, worker, crammed.text.vectors().rows(), &note.replacen("\"digest\":\"", "\"digest\":\"0", 1));
    let error = CrammedText::load(worker, path).unwrap().read_back(worker).unwrap_err();
    assert!(matches!(error, Error::ReadOtherwise), "{error}");
}

fn support_worker() -> Worker {
    worker(TIED)
}

/// A file of these vectors with this note.
fn write(path: &std::path::Path, worker: &Worker, rows: &Tensor, note: &str) {
    let tensors =
        [("vectors", rows.to_device(&Device::Cpu).unwrap()), ("probe", worker.model().probe().unwrap())];
    let metadata = [("format", "latent-briefing-vectors-1"), ("latent_briefing_crammed", note)];
    let metadata: HashMap<String, String> =
        metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
    safetensors::serialize_to_file(tensors, Some(metadata), path).unwrap();
}
