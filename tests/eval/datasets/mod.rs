//! Question sets from files: formats, faults, subsets.

mod bundled;
mod faults;
mod hub;
mod other_sets;
mod parquet;
mod subsets;

use std::fs;
use std::path::PathBuf;

use latent_briefing::eval::datasets::{FileKind, LoadOptions, Loaded, load};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A well-formed item of LongBench v2's schema, `edit` applied.
fn record(id: &str, edit: impl FnOnce(&mut Value)) -> Value {
    let mut item = json!({
        "_id": id, "domain": "Single-Document QA", "sub_domain": "Notes", "difficulty": "easy", "length": "short",
        "question": "Who keeps the ledger?", "choice_A": "Ana", "choice_B": "Bo", "choice_C": "Cla",
        "choice_D": "Dara", "answer": "B", "context": "The ledger is kept by Bo.\nNobody else has it.",
    });
    edit(&mut item);
    item
}

/// A file in a folder of its own.
struct TempFile {
    _folder: TempDir,
    path: PathBuf,
}

fn file(name: &str, content: impl AsRef<[u8]>) -> TempFile {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    TempFile { _folder: folder, path }
}

fn lines(items: &[Value]) -> String {
    items.iter().map(|item| item.to_string() + "\n").collect()
}

fn read(file: &TempFile, kind: FileKind) -> Loaded {
    load(&file.path, kind, &LoadOptions::default()).unwrap()
}

fn ids(loaded: &Loaded) -> Vec<&str> {
    loaded.items.iter().map(|item| item.id.as_str()).collect()
}
