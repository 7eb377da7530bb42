//! Checkpoints from a hub: what is fetched, where it lies, when the network is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};
use lb_model::hub::{Failure, Hub, Network, TokenUse};
use lb_model::{Checkpoint, Error, Worker};
use tempfile::TempDir;

use crate::support::checkpoints::{Copy, GROUPED, TIED, golden, prompt};
use crate::support::compare::assert_same;
use crate::support::hub_server::{COMMIT, Fault, HubServer, REPO, Request, TOKEN};

const WEIGHTS: &str = "model.safetensors";
const OTHER: &str = "00000000000000000000000000000000000000bb";

fn logits(worker: &Worker, name: &str) -> Tensor {
    worker.model().forward(&prompt(name), &mut worker.model().new_cache()).unwrap()
}

fn load(checkpoint: &Checkpoint) -> Worker {
    checkpoint.load(&Device::Cpu, None).unwrap()
}

fn folder_logits(name: &str) -> Tensor {
    logits(&load(&Checkpoint::dir(golden(name)).unwrap()), name)
}

/// The failure of the hub, after a check that the error names repository, revision and `file`.
#[track_caller]
pub(super) fn failure(error: &Error, file: &str) -> Failure {
    let message = error.to_string();
    for word in [REPO, "main", file] {
        assert!(message.contains(word), "{message:?} does not name {word:?}");
    }
    assert!(!format!("{error:?} {message}").contains(TOKEN), "{message}");
    match error {
        Error::Hub { repo, file: named, failure, .. } if repo == REPO && named == file => (**failure).clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn in_repository(cache: &TempDir, path: &str) -> PathBuf {
    cache.path().join("models--org--tiny").join(path)
}

#[test]
fn a_download_equals_the_folder_and_then_needs_no_server() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.put(COMMIT, "pytorch_model.bin", vec![0; 9]);
    let worker = load(&server.hub(cache.path()).checkpoint().unwrap());
    assert_eq!(worker.name(), REPO);
    assert_same(&logits(&worker, TIED), &folder_logits(TIED));
    assert!(server.requests().iter().all(|r| !r.path.contains(".bin")));

    // The layout of the Python library, down to the names of the blobs.
    let weights = fs::read(golden(TIED).join(WEIGHTS)).unwrap();
    let snapshot = in_repository(&cache, &format!("snapshots/{COMMIT}"));
    assert!(fs::read(snapshot.join(WEIGHTS)).unwrap() == weights);
    #[cfg(unix)]
    {
        let name = crate::support::hub_server::sha256(&weights);
        let blob = in_repository(&cache, &format!("blobs/{name}"));
        assert_eq!(fs::canonicalize(snapshot.join(WEIGHTS)).unwrap(), fs::canonicalize(blob).unwrap());
    }
    assert_eq!(fs::read_to_string(in_repository(&cache, "refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert!(fs::read_link(snapshot.join(WEIGHTS)).unwrap().starts_with("../../blobs"));

    server.hub(cache.path()).checkpoint().unwrap();
    assert_eq!(server.requests().len(), 0, "everything is in the cache");
    let (cached, offline) = (server.hub(cache.path()), server.hub(cache.path()).network(Network::Offline));
    drop(server);
    for hub in [cached, offline] {
        assert_same(&logits(&load(&hub.checkpoint().unwrap()), TIED), &folder_logits(TIED));
    }
}

#[test]
fn shards_come_by_their_index() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(GROUPED)));
    let worker = load(&server.hub(cache.path()).checkpoint().unwrap());
    assert_same(&logits(&worker, GROUPED), &folder_logits(GROUPED));
    let asked: Vec<String> = server.requests().into_iter().map(|r| r.path).collect();
    for shard in ["00001", "00002", "00003"] {
        assert!(asked.iter().any(|p| p.contains(&format!("{COMMIT}/model-{shard}-of-00003"))), "{asked:?}");
    }
    // That there is no single file is remembered, so the next call asks nothing.
    server.hub(cache.path()).checkpoint().unwrap();
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn files_that_python_left_are_found_without_network() {
    let cache = TempDir::new().unwrap();
    let snapshot = in_repository(&cache, &format!("snapshots/{COMMIT}"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(in_repository(&cache, "refs")).unwrap();
    fs::write(in_repository(&cache, "refs/main"), COMMIT).unwrap();
    let optional = ["generation_config.json", "tokenizer_config.json"];
    for entry in fs::read_dir(golden(GROUPED)).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !optional.contains(&name.as_str()) {
            fs::copy(entry.path(), snapshot.join(name)).unwrap();
        }
    }
    // A port that nothing listens on: the optional files are not there, and nobody can be asked.
    let hub = Hub::new(REPO).unwrap().endpoint("http://127.0.0.1:9").cache_dir(cache.path());
    for network in [Network::CacheFirst, Network::Offline] {
        let worker = load(&hub.clone().network(network).checkpoint().unwrap());
        assert_same(&logits(&worker, GROUPED), &folder_logits(GROUPED));
    }
    // A commit needs no ref.
    fs::remove_file(in_repository(&cache, "refs/main")).unwrap();
    hub.clone().network(Network::Offline).revision(COMMIT).checkpoint().unwrap();
    let error = hub.network(Network::Offline).checkpoint().unwrap_err();
    assert_eq!(failure(&error, "config.json"), Failure::NotCached { cache: cache.path().to_path_buf() });
}

#[test]
fn offline_without_cache_is_an_error_and_asks_nobody() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    let offline = server.hub(cache.path()).network(Network::Offline);
    let error = offline.checkpoint().unwrap_err();
    assert!(matches!(failure(&error, "config.json"), Failure::NotCached { .. }));
    // Half a checkpoint names what is missing.
    server.hub(cache.path()).file("config.json").unwrap();
    server.requests();
    assert!(matches!(
        failure(&offline.checkpoint().unwrap_err(), "tokenizer.json"),
        Failure::NotCached { .. }
    ));
    server.hub(cache.path()).file("tokenizer.json").unwrap();
    server.requests();
    assert!(matches!(failure(&offline.checkpoint().unwrap_err(), WEIGHTS), Failure::NotCached { .. }));
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn revisions_are_kept_apart_and_a_branch_moves_on_request() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.publish("refs/pr/1", OTHER, &golden(GROUPED));
    let pr = server.named(&format!("{REPO}@refs/pr/1"), cache.path());
    assert_same(&logits(&load(&pr.checkpoint().unwrap()), GROUPED), &folder_logits(GROUPED));
    assert_eq!(fs::read_to_string(in_repository(&cache, "refs/refs/pr/1")).unwrap(), OTHER);
    let hub = server.hub(cache.path());
    hub.checkpoint().unwrap();
    hub.clone().revision(OTHER).checkpoint().unwrap();

    // The branch moves: the cache stays where it is until it is asked to refresh.
    server.publish("main", OTHER, &golden(GROUPED));
    server.requests();
    assert_same(&logits(&load(&hub.checkpoint().unwrap()), TIED), &folder_logits(TIED));
    assert_eq!(server.requests().len(), 0);
    let fresh = hub.clone().network(Network::Refresh).checkpoint().unwrap();
    assert_same(&logits(&load(&fresh), GROUPED), &folder_logits(GROUPED));
    assert_eq!(server.requests().len(), 1, "one question for the commit, whose files are all there");
    assert_same(&logits(&load(&hub.checkpoint().unwrap()), GROUPED), &folder_logits(GROUPED));
}

#[test]
fn a_failed_refresh_leaves_the_branch_where_it_was() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    let hub = server.hub(cache.path());
    hub.checkpoint().unwrap();
    server.publish("main", OTHER, &golden(GROUPED));
    server.fault("model-00002-of-00003.safetensors", crate::support::hub_server::Fault::Status(503, ""));
    let error = hub.clone().network(Network::Refresh).checkpoint().unwrap_err();
    assert!(matches!(
        failure(&error, "model-00002-of-00003.safetensors"),
        Failure::Status { status: 503, requests: 3, .. }
    ));
    let offline = hub.network(Network::Offline).checkpoint().unwrap();
    assert_same(&logits(&load(&offline), TIED), &folder_logits(TIED));
}

#[test]
fn optional_files_may_be_absent() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.remove("generation_config.json");
    server.remove("tokenizer_config.json");
    load(&server.hub(cache.path()).checkpoint().unwrap());
    server.requests();
    load(&server.hub(cache.path()).checkpoint().unwrap());
    assert_eq!(server.requests().len(), 0, "absence is remembered");
}

#[test]
fn what_is_missing_is_named() {
    for terse in [false, true] {
        let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
        if terse {
            server.make_terse();
        }
        let hub = server.hub(cache.path());
        let no_file = hub.file("absent.gguf").unwrap_err();
        assert_eq!(failure(&no_file, "absent.gguf"), Failure::NoFile);
        let no_revision = hub.clone().revision("mainly").checkpoint().unwrap_err();
        assert_eq!(failure(&no_revision, "config.json"), Failure::NoRevision);
        let Error::Hub { repo, failure: no_repository, .. } =
            server.named("org/none", cache.path()).checkpoint().unwrap_err()
        else {
            panic!("not an error of the hub");
        };
        assert_eq!(repo, "org/none");
        assert_eq!(*no_repository, Failure::NoRepository { token: TokenUse::Sent });
        server.remove("tokenizer.json");
        assert_eq!(failure(&hub.checkpoint().unwrap_err(), "tokenizer.json"), Failure::NoFile);
        server.publish("main", COMMIT, &golden(TIED));
        server.remove(WEIGHTS);
        let fresh = TempDir::new().unwrap();
        let error = server.hub(fresh.path()).checkpoint().unwrap_err();
        assert_eq!(failure(&error, WEIGHTS), Failure::NoFile);
        assert!(!in_repository(&fresh, "refs/main").exists(), "a failed call leaves no ref");
    }
}

#[test]
fn a_token_opens_a_gated_repository_and_stays_with_the_hub() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.make_private();
    let hub = server.hub(cache.path());
    assert!(!format!("{hub:?} {hub:#?}").contains(TOKEN), "{hub:?}");
    assert!(format!("{hub:?}").contains(REPO));
    let error = hub.clone().token("hf_another").checkpoint().unwrap_err();
    let denied = failure(&error, "config.json");
    assert!(
        matches!(denied, Failure::Denied { status: 401, gated: true, token: TokenUse::Sent, .. }),
        "{denied:?}"
    );
    assert!(!format!("{error} {error:?}").contains("hf_another"));
    hub.checkpoint().unwrap();
    let (storage, own): (Vec<_>, Vec<_>) = server.requests().into_iter().partition(Request::to_storage);
    assert!(!storage.is_empty() && own.iter().any(|r| r.header("authorization").is_some()));
    assert!(storage.iter().all(|r| r.header("authorization").is_none()), "{storage:?}");
    for bad in ["", "two words", "line\nbreak", "ünicode"] {
        let error = hub.clone().token(bad).file("new.gguf").unwrap_err();
        assert!(matches!(error, Error::Config { field: "token", .. }), "{error:?}");
        assert!(bad.is_empty() || !format!("{error} {error:?}").contains(bad));
    }
}

/// A redirect to the hub's own host at another port leads to whoever listens there. The same without a port in it, or with
/// another scheme, is another place too; the hub's own place in full is the hub.
#[test]
fn a_token_goes_to_the_hubs_own_port_alone() {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap();
    let (seen, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let _ = seen.send(request);
            let _ = (&stream).write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.make_private();
    let target = format!("http://{other}/storage/x").leak();
    server.fault("model.safetensors", Fault::Header("location", target));
    assert!(server.hub(cache.path()).checkpoint().is_err());
    let request = asked.recv_timeout(std::time::Duration::from_secs(5)).unwrap();
    assert!(request[0].contains("/storage/x"), "{request:?}");
    assert!(!request.iter().any(|line| line.to_lowercase().contains("authorization")), "{request:?}");
    assert!(!request.iter().any(|line| line.contains(TOKEN)), "{request:?}");
}

#[test]
fn a_renamed_repository_is_followed() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.make_private();
    let worker = load(&server.named("old/name", cache.path()).checkpoint().unwrap());
    assert_same(&logits(&worker, TIED), &folder_logits(TIED));
}

#[test]
fn one_file_by_name_with_progress() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    server.put(COMMIT, "quantised/tiny-Q4_K_M.gguf", bytes.clone());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let hub = server.hub(cache.path()).progress(move |p| {
        log.lock().unwrap().push((p.file.to_string(), p.done, p.size));
    });
    let path = hub.file("quantised/tiny-Q4_K_M.gguf").unwrap();
    assert!(fs::read(&path).unwrap() == bytes);
    assert!(path.ends_with("quantised/tiny-Q4_K_M.gguf"));
    let seen = seen.lock().unwrap();
    assert!(
        seen.iter().all(|(file, _, size)| file == "quantised/tiny-Q4_K_M.gguf" && *size == Some(300_000))
    );
    assert_eq!((seen[0].1, seen[seen.len() - 1].1), (0, 300_000));
    assert!(seen.len() > 2 && seen.windows(2).all(|w| w[0].1 <= w[1].1), "{seen:?}");
    for pickle in ["pytorch_model.bin", "a/b.PT", "model.ckpt"] {
        let error = hub.file(pickle).unwrap_err();
        assert!(matches!(error, Error::Config { field: "file", .. }), "{error:?}");
    }
}

#[test]
fn hostile_names_are_refused_before_any_request() {
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    let names = [
        "",
        "/",
        "org/",
        "/tiny",
        "../x",
        "org/..",
        "./x",
        "a/b/c",
        "a/b/c/d",
        "org/ti ny",
        " org/tiny",
        "org/tiny\n",
        "org//tiny",
        "org\\tiny",
        "org/tiny?x",
        "org/tiny#x",
        "org/%2e%2e",
        "org/a--b",
        "org/-a",
        "org/a.",
        "órg/tiny",
        "org/tiny@",
        "org/tiny@../x",
        "org/tiny@a b",
        "org/tiny@/x",
        "org/tiny@a//b",
        "org/tiny:",
        "org/tiny:Q4 K",
        "org/tiny:../x",
        "org/tiny:Q4_K_M@main:Q4_K_M",
        "org/tiny/../../x.gguf",
        "org/tiny/x.bin",
        "org/tiny/.x.gguf",
    ];
    for name in names.into_iter().map(str::to_string).chain([format!("org/{}", "x".repeat(1000))]) {
        match Hub::new(&name).unwrap_err() {
            Error::Config { field: "repository" | "revision" | "file", value, .. } => {
                assert!(value.len() < 200);
            }
            other => panic!("{name:?}: {other:?}"),
        }
        assert!(Worker::load(&name).is_err(), "{name:?}");
    }
    let hub = server.hub(cache.path());
    for file in
        ["", "../config.json", "/etc/passwd", "a/../b", "a b", ".hidden", "a//b", "a\\b", "x?y", "x%2f"]
    {
        let error = hub.file(file).unwrap_err();
        assert!(matches!(error, Error::Config { field: "file", .. }), "{file:?}: {error:?}");
    }
    let error = hub.clone().revision("../../x").checkpoint().unwrap_err();
    assert!(matches!(error, Error::Config { field: "revision", .. }), "{error:?}");
    for url in ["", "ftp://x", "huggingface.co", "http://", "https://user:pass@x", "http:///x", "http://a b"]
    {
        let error = hub.clone().endpoint(url).checkpoint().unwrap_err();
        assert!(matches!(error, Error::Config { field: "endpoint", .. }), "{url:?}: {error:?}");
        assert!(!error.to_string().contains("pass"));
    }
    assert_eq!(server.requests().len(), 0);
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}

#[test]
fn a_hostile_index_is_refused() {
    for shard in
        ["../../../x.safetensors", "a/b.safetensors", "a\\b.safetensors", "", "x.bin", ".x.safetensors"]
    {
        let copy = Copy::of(GROUPED);
        copy.edit_json("model.safetensors.index.json", |index| {
            index["weight_map"]["model.norm.weight"] = shard.into();
        });
        let folder = copy.file("config.json");
        let (cache, server) = (TempDir::new().unwrap(), HubServer::of(folder.parent().unwrap()));
        let error = server.hub(cache.path()).checkpoint().unwrap_err();
        let Error::Corrupt { path, reason } = error else { panic!("{shard:?}: {error:?}") };
        assert!(path.ends_with("model.safetensors.index.json") && reason.contains("shard"), "{reason}");
        assert!(server.requests().iter().all(|r| !r.to_storage()), "no shard is asked for");
    }
}

#[test]
fn load_tells_both_readings_of_what_it_cannot_find() {
    let error = Worker::load("no such folder").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    for word in ["no such folder", "no such file or folder", "org/name"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// Runs [`in_the_environment`] alone, in a process of its own.
pub(super) fn with_environment(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "model::hub::in_the_environment", "--nocapture", "--test-threads=1"]);
    for name in
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
    {
        command.env_remove(name);
    }
    for name in
        ["HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "XDG_CACHE_HOME", "HF_HOME"]
    {
        command.env_remove(name);
    }
    for name in
        ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "TRANSFORMERS_OFFLINE"]
    {
        command.env_remove(name);
    }
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    let output = command.env("LB_HUB_TEST", "1").envs(variables.iter().copied()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    printed.lines().find(|line| line.contains("hub test:")).unwrap_or_else(|| panic!("{printed}")).to_string()
}

/// The child of [`with_environment`]; nothing by itself.
#[test]
fn in_the_environment() {
    if std::env::var_os("LB_HUB_TEST").is_none() {
        return;
    }
    // One small file, or a whole checkpoint.
    let outcome = match std::env::var("LB_HUB_TEST_FILE") {
        Ok(file) => Hub::new(REPO).and_then(|hub| hub.file(&file)).map(|path| path.display().to_string()),
        Err(_) => Worker::load(REPO).map(|worker| worker.name().to_string()),
    };
    match outcome {
        Ok(loaded) => println!("\nhub test: loaded {loaded}"),
        Err(error) => println!("\nhub test: {error}"),
    }
}

#[test]
fn the_environment_sets_what_python_reads_from_it() {
    let (home, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    server.make_private();
    let (url, path) = (server.url(), home.path().to_str().unwrap());
    let endpoint = ("HF_ENDPOINT", url.as_str());
    let denied = with_environment(&[endpoint, ("HF_HOME", path)]);
    assert!(denied.contains("401") && denied.contains("HF_TOKEN"), "{denied}");
    // A token by variable, then one by file.
    let by_variable = with_environment(&[endpoint, ("HF_HOME", path), ("HF_TOKEN", TOKEN)]);
    assert!(by_variable.contains("loaded org/tiny"), "{by_variable}");
    assert!(home.path().join("hub/models--org--tiny/refs/main").is_file());
    fs::write(home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let second = TempDir::new().unwrap();
    let hub_cache = ("HF_HUB_CACHE", second.path().to_str().unwrap());
    let by_file = with_environment(&[endpoint, ("HF_HOME", path), hub_cache]);
    assert!(by_file.contains("loaded org/tiny"), "{by_file}");
    assert!(Path::new(hub_cache.1).join("models--org--tiny").is_dir());
    let third = TempDir::new().unwrap();
    let empty = ("HF_HUB_CACHE", third.path().to_str().unwrap());
    let ignored =
        with_environment(&[endpoint, ("HF_HOME", path), empty, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]);
    assert!(ignored.contains("401"), "{ignored}");
    server.requests();
    let offline = with_environment(&[endpoint, empty, ("HF_HUB_OFFLINE", "1")]);
    assert!(offline.contains("offline") && offline.contains(empty.1), "{offline}");
    let cached = with_environment(&[endpoint, ("HF_HOME", path), ("HF_HUB_OFFLINE", "true")]);
    assert!(cached.contains("loaded org/tiny"), "{cached}");
    assert_eq!(server.requests().len(), 0);
}

/// Set for the process in which everything is logged.
const ALONE: &str = "LATENT_BRIEFING_TEST_HUB_LOG";

struct Everything;

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("{} {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

#[test]
fn a_log_that_would_show_the_token_stops_the_request() {
    let test = "model::hub::alone_with_everything_logged";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!text.contains(TOKEN));
}

#[test]
fn alone_with_everything_logged() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    log::set_logger(&Everything).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let (cache, server) = (TempDir::new().unwrap(), HubServer::of(&golden(TIED)));
    let error = server.hub(cache.path()).token(TOKEN).file("config.json").unwrap_err();
    assert!(matches!(&error, Error::Config { field: "log level of ureq_proto", .. }), "{error:?}");
    assert!(error.to_string().contains("ureq_proto=debug"), "{error}");
    assert!(server.requests().is_empty());
}
