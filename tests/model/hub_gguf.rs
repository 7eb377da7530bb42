//! Repositories of GGUF files: which one is meant, all its parts, what lies beside it.

use std::fs;
use std::path::PathBuf;

use candle_core::Device;
use lb_model::hub::{Failure, Hub, Network};
use lb_model::{Checkpoint, Error, GgufFormat};
use tempfile::TempDir;

use crate::support::checkpoints::{TIED, golden};
use crate::support::gguf_bytes::Gguf;
use crate::support::hub_server::{COMMIT, Fault, HubServer, LISTING, REPO};

const Q8: &str = "tiny-q8_0.gguf";
const F16: &str = "F16/tiny-f16.gguf";

fn gguf(format: GgufFormat) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    Checkpoint::dir(golden(TIED)).unwrap().write_gguf(&path, format).unwrap();
    fs::read(path).unwrap()
}

/// A file without its tokenizer.
fn bare() -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, gguf(GgufFormat::Q8_0)).unwrap();
    let mut file = Gguf::read(&path);
    file.values.retain(|(key, _)| !key.starts_with("tokenizer."));
    file.write(&path);
    fs::read(path).unwrap()
}

/// A hub whose repository holds these files alone.
fn serve(files: &[(&str, Vec<u8>)]) -> (TempDir, HubServer) {
    let server = HubServer::of(TempDir::new().unwrap().path());
    for (name, bytes) in files {
        server.put(COMMIT, name, bytes.clone());
    }
    (TempDir::new().unwrap(), server)
}

fn two() -> (TempDir, HubServer) {
    serve(&[(Q8, gguf(GgufFormat::Q8_0)), (F16, gguf(GgufFormat::F16)), ("README.md", b"hello".to_vec())])
}

#[track_caller]
fn loads(hub: &Hub, name: &str) {
    let worker = hub.checkpoint().unwrap().load(&Device::Cpu, None).unwrap();
    assert_eq!(worker.name(), format!("{REPO}/{name}"));
}

#[track_caller]
fn failure(hub: &Hub) -> (Failure, String) {
    let error = hub.checkpoint().unwrap_err();
    let message = error.to_string();
    match error {
        Error::Hub { failure, .. } => (*failure, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_chosen_by_tag_or_by_name() {
    for (spec, file) in [
        ("org/tiny:Q8_0", Q8),
        ("org/tiny:q8_0", Q8),
        ("org/tiny:F16", F16),
        ("org/tiny/tiny-q8_0.gguf", Q8),
        ("org/tiny/F16/tiny-f16.gguf", F16),
        ("org/tiny:tiny-q8_0.gguf", Q8),
        ("org/tiny:Q8_0@main", Q8),
        ("org/tiny@main:Q8_0", Q8),
        ("org/tiny/tiny-q8_0.gguf@main", Q8),
        ("https://huggingface.co/org/tiny/blob/main/F16/tiny-f16.gguf", F16),
    ] {
        let (cache, server) = two();
        let hub = server.named(spec, cache.path());
        loads(&hub, file);
        assert!(hub.fetch().unwrap().ends_with(file));
        // The second time nothing is asked, also where nobody may be asked.
        server.requests();
        loads(&hub, file);
        loads(&hub.clone().network(Network::Offline), file);
        assert!(server.requests().is_empty(), "{spec}");
        let other = if file == Q8 { F16 } else { Q8 };
        let fetched = cache.path().join(format!("models--org--tiny/snapshots/{COMMIT}"));
        assert!(!fetched.join(other).exists(), "{spec}");
    }
}

#[test]
fn a_revision_has_files_of_its_own() {
    const OTHER: &str = "00000000000000000000000000000000000000bb";
    let (cache, server) = two();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("tiny-q8_0.gguf"), gguf(GgufFormat::Q8_0)).unwrap();
    server.publish("dev", OTHER, folder.path());
    let path = server.named("org/tiny:Q8_0@dev", cache.path()).fetch().unwrap();
    assert!(path.to_str().unwrap().contains(OTHER));
    let (failure, _) = failure(&server.named("org/tiny:F16@dev", cache.path()));
    assert!(matches!(failure, Failure::Choose { .. }), "{failure:?}");
    // A branch that moves is followed on request.
    server.publish("dev", COMMIT, TempDir::new().unwrap().path());
    let fresh = server.named("org/tiny:Q8_0@dev", cache.path()).network(Network::Refresh).fetch().unwrap();
    assert!(fresh.to_str().unwrap().contains(COMMIT));
}

#[test]
fn without_a_choice_the_files_are_listed() {
    let (cache, server) = two();
    let (found, message) = failure(&server.hub(cache.path()));
    let Failure::Choose { repo, asked: None, files } = found else { panic!("{found:?}") };
    assert_eq!((repo.as_str(), files.len()), (REPO, 2));
    for word in [Q8, F16, " kB)", "org/tiny:f16", "org/tiny/F16/tiny-f16.gguf"] {
        assert!(message.contains(word), "{message}");
    }
    for spec in ["org/tiny:Q5_K_M", "org/tiny/tiny-q9.gguf"] {
        let (found, message) = failure(&server.named(spec, cache.path()));
        assert!(matches!(found, Failure::Choose { asked: Some(_), .. }), "{found:?}");
        assert!(message.contains(Q8) && message.contains("does not name"), "{message}");
    }
    assert!(server.requests().iter().all(|r| !r.to_storage()), "nothing large is fetched");
}

#[test]
fn a_single_file_is_taken() {
    let small = [("README.md", b"x".to_vec()), ("mmproj-f16.gguf", vec![0; 9]), ("imatrix.gguf", vec![0; 9])];
    let mut files = vec![(Q8, gguf(GgufFormat::Q8_0))];
    files.extend(small);
    let (cache, server) = serve(&files);
    let hub = server.hub(cache.path());
    loads(&hub, Q8);
    loads(&hub.clone().network(Network::Offline), Q8);
    // Whether there are others can be asked again; with nobody there the one in the cache is it.
    drop(server);
    loads(&hub, Q8);
}

/// As repositories of conversions are that bring a config.json.
#[test]
fn a_config_beside_does_not_make_a_checkpoint_in_safetensors() {
    let config = fs::read(golden(TIED).join("config.json")).unwrap();
    let (cache, server) = serve(&[(Q8, gguf(GgufFormat::Q8_0)), ("config.json", config)]);
    loads(&server.hub(cache.path()), Q8);
    // With both, safetensors is what a name means, and a tag means the other.
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.put(COMMIT, Q8, gguf(GgufFormat::Q8_0));
    let both = server.hub(cache.path()).checkpoint().unwrap().load(&Device::Cpu, None).unwrap();
    assert_eq!(both.name(), REPO);
    loads(&server.named("org/tiny:Q8_0", cache.path()), Q8);
}

#[test]
fn all_parts_are_fetched() {
    let part = |number: usize| format!("big/tiny-Q4_K_M-{number:05}-of-00003.gguf");
    let names: Vec<String> = (1..=3).map(part).collect();
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().enumerate().map(|(at, name)| (name.as_str(), vec![at as u8; 100_000])).collect();
    let second = format!("org/tiny/{}", names[1]);
    for spec in [REPO, "org/tiny:Q4_K_M", &second] {
        let (cache, server) = serve(&files);
        let first: PathBuf = server.named(spec, cache.path()).fetch().unwrap();
        assert!(first.ends_with(&names[0]), "{spec}: {first:?}");
        for (name, bytes) in &files {
            let path = cache.path().join(format!("models--org--tiny/snapshots/{COMMIT}/{name}"));
            assert!(fs::read(path).unwrap() == *bytes, "{spec}");
        }
        // One entry in the list, with the size of all.
        server.put(COMMIT, Q8, gguf(GgufFormat::Q8_0));
        let (found, message) = failure(&server.hub(cache.path()));
        assert!(matches!(&found, Failure::Choose { files, .. } if files.len() == 2), "{found:?}");
        assert!(message.contains("300.0 kB"), "{message}");
    }
    let (cache, server) = serve(&files[..2]);
    let (found, message) = failure(&server.named("org/tiny:Q4_K_M", cache.path()));
    assert!(found == Failure::NoPart && message.contains("00003-of-00003"), "{message}");
}

#[test]
fn a_tokenizer_is_fetched_where_the_file_has_none() {
    let tokenizer = fs::read(golden(TIED).join("tokenizer.json")).unwrap();
    let (cache, server) = serve(&[(Q8, bare()), ("tokenizer.json", tokenizer.clone())]);
    let path = server.named("org/tiny:Q8_0", cache.path()).fetch().unwrap();
    assert!(fs::read(path.with_file_name("tokenizer.json")).unwrap() == tokenizer);
    let (cache, server) = serve(&[(Q8, gguf(GgufFormat::Q8_0)), ("tokenizer.json", tokenizer)]);
    let path = server.named("org/tiny:Q8_0", cache.path()).fetch().unwrap();
    assert!(!path.with_file_name("tokenizer.json").exists(), "not needed");
    // Neither here nor there: the file is fetched all the same.
    let (cache, server) = serve(&[(Q8, bare())]);
    server.named("org/tiny:Q8_0", cache.path()).fetch().unwrap();
}

#[test]
fn other_weights_are_named() {
    let (cache, server) = serve(&[("pytorch_model.bin", vec![1]), ("config.json", b"{}".to_vec())]);
    server.put(COMMIT, "tokenizer.json", b"{}".to_vec());
    let (found, message) = failure(&server.hub(cache.path()));
    assert_eq!(found, Failure::NoWeights { found: vec!["pytorch_model.bin".to_string()] });
    assert!(message.contains("no safetensors and no GGUF"), "{message}");
}

/// A mirror without the list of files: what is named is fetched, what must be looked up is not.
#[test]
fn a_hub_without_a_list_serves_files_by_name() {
    let (cache, server) = two();
    server.fault(LISTING, Fault::Status(404, "EntryNotFound"));
    loads(&server.named("org/tiny/tiny-q8_0.gguf", cache.path()), Q8);
    let (found, message) = failure(&server.named("org/tiny:F16", cache.path()));
    assert!(found == Failure::NoFile && message.contains("list of files"), "{message}");
    let (found, _) = failure(&server.named("org/tiny:F16", cache.path()).network(Network::Offline));
    assert!(matches!(found, Failure::NotCached { .. }), "{found:?}");
}
