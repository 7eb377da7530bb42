//! `deploy/dynamo`, which is too large to be built with the rest: that its manifest is whole, that its versions are exact, and that it computes
//! with the crates that this workspace computes with, since its answers are to be the same tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::Table;

/// What tokens depend on: numbers, tokenizers, templates, files of weights.
const COMPUTES: [&str; 12] = [
    "candle-core",
    "candle-nn",
    "gemm",
    "gemm-common",
    "gemm-f16",
    "gemm-f32",
    "half",
    "minijinja",
    "minijinja-contrib",
    "pulp",
    "safetensors",
    "tokenizers",
];

/// The root of the repository; `None` where this crate stands alone.
fn root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let there = root.join("deploy/dynamo/Cargo.toml").is_file();
    if !there {
        eprintln!("skipped: deploy/dynamo is not here");
    }
    there.then_some(root)
}

fn read(file: &Path) -> Table {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn locked(file: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in read(file)["package"].as_array().unwrap() {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    versions
}

#[test]
fn its_versions_are_exact_and_locked() {
    let Some(root) = root() else { return };
    let folder = root.join("deploy/dynamo");
    let (manifest, locked) = (read(&folder.join("Cargo.toml")), locked(&folder.join("Cargo.lock")));
    for kind in ["dependencies", "dev-dependencies"] {
        for (name, dependency) in manifest[kind].as_table().unwrap() {
            if let Some(path) = dependency.get("path") {
                assert!(folder.join(path.as_str().unwrap()).join("Cargo.toml").is_file(), "{name}");
                continue;
            }
            let version = dependency.as_str().or_else(|| dependency["version"].as_str()).unwrap();
            let exact =
                version.strip_prefix('=').unwrap_or_else(|| panic!("{name} = {version:?} is not exact"));
            assert!(locked[name].contains(exact), "{name} {exact} is not in Cargo.lock");
        }
    }
    let own = read(&root.join("Cargo.toml"));
    let excluded = own["workspace"]["exclude"].as_array().unwrap();
    assert!(excluded.iter().any(|folder| folder.as_str() == Some("deploy/dynamo")));
    assert_eq!(manifest["package"]["version"], own["workspace"]["package"]["version"]);
}

#[test]
fn it_computes_with_the_same_crates() {
    let Some(root) = root() else { return };
    let (there, here) = (locked(&root.join("deploy/dynamo/Cargo.lock")), locked(&root.join("Cargo.lock")));
    for name in COMPUTES {
        // Dynamo brings older ones of some for itself.
        assert!(here[name].is_subset(&there[name]), "{name}: {:?} here, {:?} there", here[name], there[name]);
    }
}
