//! What is a name on the hub, and what is a path that leads nowhere.

use std::fs;

use lb_model::hub::{Hub, Network};
use lb_model::{Checkpoint, Error};
use tempfile::TempDir;

use crate::support::checkpoints::{Copy, TIED, golden};
use crate::support::hub_server::{COMMIT, HubServer, OLD, REPO};

#[test]
fn a_name_without_organisation_is_followed_to_its_new_one() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    let hub = server.named(OLD, cache.path());
    let checkpoint = hub.checkpoint().unwrap();
    assert!(checkpoint.folder().unwrap().starts_with(cache.path().join(format!("models--{OLD}/snapshots"))));
    server.requests();
    hub.clone().network(Network::Offline).checkpoint().unwrap();
    assert!(server.requests().is_empty());
    // The list of files is found by the old name too.
    for file in ["model.safetensors", "config.json"] {
        server.remove(file);
    }
    server.put(COMMIT, "pytorch_model.bin", vec![1]);
    let error = hub.network(Network::Refresh).cache_dir(cache.path().join("other")).checkpoint().unwrap_err();
    assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
}

#[test]
fn addresses_of_pages_are_names_too() {
    for (address, repository, revision) in [
        ("https://huggingface.co/org/tiny", "org/tiny", "main"),
        ("https://huggingface.co/org/tiny/tree/dev", "org/tiny", "dev"),
        ("hf.co/org/tiny@v1", "org/tiny", "v1"),
        ("https://huggingface.co/org/tiny/blob/main/x.gguf", "org/tiny", "main"),
    ] {
        let hub = format!("{:?}", Hub::new(address).unwrap());
        assert!(
            hub.contains(&format!("repo: {repository},")) && hub.contains(&format!("{revision:?}")),
            "{hub}"
        );
    }
    assert!(Hub::new("https://example.com/org/tiny").is_err());
}

/// None of these may be asked for anywhere: the endpoint of this process is the hub itself, so a request would be told apart by
/// its error.
#[test]
fn paths_that_lead_nowhere_are_missing_files() {
    let folder = TempDir::new().unwrap();
    let beside = folder.path().join("absent.gguf");
    for path in [
        "model.gguf",
        "./model.gguf",
        "./models/foo",
        "../models/foo",
        "models/foo.gguf",
        "models/Foo.GGUF",
        "models/foo.safetensors",
        "model.safetensors",
        "config.json",
        "~/models/foo",
        "/no/such/folder",
        "models\\foo",
        "C:\\models\\foo",
        "C:foo",
        "a b",
        beside.to_str().unwrap(),
        // The folder is there, the file is not.
        "golden/model.gguf",
    ] {
        let error = Checkpoint::open(path).unwrap_err();
        let Error::Io { path: named, source } = &error else { panic!("{path:?}: {error:?}") };
        assert_eq!((named.to_str(), source.kind()), (Some(path), std::io::ErrorKind::NotFound));
        assert!(error.to_string().contains("no such file or folder"), "{error}");
    }
}

#[test]
fn what_lies_here_comes_first() {
    let copy = Copy::of(TIED);
    let folder = copy.file("config.json").parent().unwrap().to_path_buf();
    let parent = TempDir::new().unwrap();
    fs::create_dir(parent.path().join("org")).unwrap();
    fs::rename(&folder, parent.path().join(REPO)).unwrap();
    let found = Checkpoint::open(parent.path().join(REPO)).unwrap();
    assert_eq!(found.folder().unwrap(), fs::canonicalize(parent.path().join(REPO)).unwrap());
    fs::rename(parent.path().join(REPO), &folder).unwrap();
}

#[test]
fn data_sets_have_no_files_to_choose() {
    for name in ["org/tiny:Q4_K_M", "org/tiny/x.gguf"] {
        assert!(
            matches!(Hub::dataset(name).unwrap_err(), Error::Config { field: "repository", .. }),
            "{name}"
        );
    }
}
