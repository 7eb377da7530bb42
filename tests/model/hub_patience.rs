//! A hub that is busy, resets connections, refuses or hands over: what is tried again, and what is said.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use lb_model::Error;
use lb_model::hub::{Failure, Hub, Retries, TokenUse};
use tempfile::TempDir;

use super::hub::failure;
use crate::support::checkpoints::{TIED, golden};
use crate::support::hub_server::{COMMIT, Fault, HubServer, QUICK, REPO};

const CONFIG: &str = "config.json";
const BIG: &str = "big.gguf";

fn start() -> (TempDir, HubServer) {
    (TempDir::new().unwrap(), HubServer::of(&golden(TIED)))
}

/// What is said in pauses, and how long they are.
type Said = Arc<Mutex<Vec<(String, Duration)>>>;

fn listening(hub: Hub) -> (Hub, Said) {
    let said = Said::default();
    let log = Arc::clone(&said);
    (hub.on_retry(move |retry| log.lock().unwrap().push((retry.to_string(), retry.pause))), said)
}

#[test]
fn busy_and_broken_hubs_are_asked_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (cache, server) = start();
        server.fault(CONFIG, Fault::Busy(2, status, "retry-after", ""));
        let (hub, said) = listening(server.hub(cache.path()));
        hub.checkpoint().unwrap();
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        let text = &said[1].0;
        assert!(
            text.contains(CONFIG) && text.contains(&status.to_string()) && text.contains("2 of 2"),
            "{text}"
        );
    }
    for status in [400, 404, 501] {
        let (cache, server) = start();
        server.fault(CONFIG, Fault::Busy(1, status, "x", "y"));
        server.hub(cache.path()).file(CONFIG).unwrap_err();
    }
}

#[test]
fn reset_connections_are_made_anew() {
    let (cache, server) = start();
    server.fault(CONFIG, Fault::HangUp(2));
    server.hub(cache.path()).checkpoint().unwrap();
    server.fault(BIG, Fault::HangUp(9));
    let error = server.hub(cache.path()).file(BIG).unwrap_err();
    assert!(matches!(failure(&error, BIG), Failure::Unreachable { .. }), "{error}");
}

/// Each piece is shorter than what is taken up again at once.
#[test]
fn a_download_that_is_cut_goes_on_after_a_pause() {
    let (cache, server) = start();
    let bytes: Vec<u8> = (0..250_000_u32).map(|i| (i % 241) as u8).collect();
    server.put(COMMIT, BIG, bytes.clone());
    server.fault(BIG, Fault::Cut(100_000));
    let (hub, said) = listening(server.hub(cache.path()));
    assert!(fs::read(hub.file(BIG).unwrap()).unwrap() == bytes);
    assert_eq!(said.lock().unwrap().len(), 2);
    let ranges: Vec<String> = server
        .requests()
        .iter()
        .filter(|r| r.to_storage())
        .filter_map(|r| r.header("range").map(str::to_string))
        .collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
    // A small file has no digest, and so starts over.
    server.fault(CONFIG, Fault::CutOnce(10));
    hub.checkpoint().unwrap();
}

#[test]
fn the_pause_is_what_the_hub_asks_for() {
    let soon = || {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
        let date: &'static str = Box::leak(date.into_boxed_str());
        date
    };
    for (header, value, least) in [
        ("retry-after", soon(), 500),
        ("retry-after", "1", 1000),
        ("ratelimit", r#""api";r=0;t=1"#, 1000),
        ("retry-after", "soon", 0),
    ] {
        let (cache, server) = start();
        server.fault(CONFIG, Fault::Busy(1, 429, header, value));
        let (hub, said) = listening(server.hub(cache.path()));
        let begun = Instant::now();
        hub.file(CONFIG).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(least), "{value}");
        assert!(said.lock().unwrap()[0].1 >= Duration::from_millis(least), "{value}");
    }
    // More than is waited for: said at once.
    let (cache, server) = start();
    server.fault(CONFIG, Fault::Busy(9, 429, "retry-after", "3600"));
    let error = server.hub(cache.path()).file(CONFIG).unwrap_err();
    let hour = Some(Duration::from_hours(1));
    assert_eq!(failure(&error, CONFIG), Failure::Status { status: 429, requests: 1, retry_after: hour });
    assert!(error.to_string().contains("3600 s") && error.to_string().contains("HF_TOKEN"), "{error}");
}

#[test]
fn a_call_that_nobody_waits_for_ends() {
    let (cache, server) = start();
    server.fault(CONFIG, Fault::Busy(9, 503, "retry-after", "60"));
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, asked) = (Arc::clone(&stop), Arc::clone(&stop));
    let patient = Retries { longest_pause: Duration::from_mins(2), ..QUICK };
    let hub = server.hub(cache.path()).retries(patient).cancel_when(move || asked.load(Ordering::SeqCst));
    // The pause has begun when it is said.
    let hub = hub.on_retry(move |_| flag.store(true, Ordering::SeqCst));
    let begun = Instant::now();
    assert!(matches!(hub.file(CONFIG).unwrap_err(), Error::Interrupted));
    assert!(begun.elapsed() < Duration::from_secs(20));
    // In the middle of a file, what came is kept.
    stop.store(false, Ordering::SeqCst);
    server.heal();
    server.put(COMMIT, BIG, vec![7; 3_000_000]);
    let flag = Arc::clone(&stop);
    let hub = hub.progress(move |progress| flag.store(progress.done > 1_000_000, Ordering::SeqCst));
    assert!(matches!(hub.file(BIG).unwrap_err(), Error::Interrupted));
    let parts: Vec<u64> = fs::read_dir(cache.path().join("models--org--tiny/blobs"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "incomplete"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!(parts.len() == 1 && (1_000_000..3_000_000).contains(&parts[0]), "{parts:?}");
}

#[test]
fn each_refusal_says_what_to_do() {
    const NO_GATED: &str = "Please enable access to public gated repositories in your fine-grained token settings to view \
                            this repository.";
    for (fault, with_token, words) in [
        (
            Fault::Refusal(401, "GatedRepo", ""),
            false,
            ["accept the model's terms at", "HF_TOKEN", "/org/tiny"],
        ),
        (
            Fault::Refusal(403, "GatedRepo", ""),
            true,
            ["has not been granted", "accept the model's terms", "/org/tiny"],
        ),
        (
            Fault::Refusal(403, "", NO_GATED),
            true,
            ["the token may not read", "fine-grained token settings", "403"],
        ),
        (
            Fault::Refusal(401, "", "Invalid credentials"),
            true,
            ["token is not accepted", "unset HF_TOKEN", "401"],
        ),
        // A public model, asked for with a token that has expired.
        (
            Fault::Refusal(401, "RepoNotFound", "Invalid credentials in Authorization header"),
            true,
            ["token is not accepted", "unset HF_TOKEN", "Invalid credentials"],
        ),
        (Fault::Refusal(401, "", ""), false, ["is private", "hf auth login", "401"]),
        (
            Fault::Refusal(401, "RepoNotFound", ""),
            false,
            ["no such repository", "HF_TOKEN", "check the path"],
        ),
        (
            Fault::Refusal(404, "RepoNotFound", ""),
            true,
            ["no such repository", "does not give access", "org/tiny"],
        ),
        (Fault::Refusal(404, "EntryNotFound", ""), true, ["no such file", CONFIG, REPO]),
        (Fault::Refusal(404, "RevisionNotFound", ""), true, ["no such revision", "main", REPO]),
    ] {
        let (cache, server) = start();
        server.fault(CONFIG, fault);
        let mut hub = server.hub(cache.path());
        if !with_token {
            hub = Hub::new(REPO).unwrap().endpoint(server.url()).cache_dir(cache.path()).retries(QUICK);
        }
        let error = hub.file(CONFIG).unwrap_err();
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
        assert_eq!(message.lines().count(), 1, "{message}");
        if let Failure::Denied { token, .. } = failure(&error, CONFIG) {
            assert_eq!(token == TokenUse::Sent, with_token);
        }
    }
}

/// A mirror that hands over to another address of its own; the query of a redirect stays.
#[test]
fn redirects_within_the_hub_are_followed() {
    let (cache, server) = start();
    let target: &'static str =
        Box::leak(format!("{}/{REPO}/resolve/main/{CONFIG}?etag=1", server.url()).into_boxed_str());
    server.fault("moved.json", Fault::Busy(9, 308, "location", target));
    let path = server.hub(cache.path()).file("moved.json").unwrap();
    assert!(fs::read(path).unwrap() == fs::read(golden(TIED).join(CONFIG)).unwrap());
    assert!(server.requests().iter().any(|r| r.path.ends_with("?etag=1")));
    // To another host that describes the file no better, nothing is followed and no token goes.
    let elsewhere: &'static str = Box::leak(server.url().replace("127.0.0.1", "localhost").into_boxed_str());
    server.fault("moved.gguf", Fault::Busy(9, 308, "location", elsewhere));
    let error = server.hub(cache.path()).file("moved.gguf").unwrap_err();
    assert_eq!(failure(&error, "moved.gguf"), Failure::BadReply { header: "x-repo-commit" });
    assert!(server.requests().iter().all(|r| r.path != "/"));
}

#[test]
fn an_endpoint_may_have_a_path() {
    let (cache, server) = start();
    let hub = server.hub(cache.path()).endpoint(format!("{}/mirror/", server.url()));
    let error = hub.file(CONFIG).unwrap_err();
    assert!(matches!(failure(&error, CONFIG), Failure::NoRepository { .. }), "{error}");
    assert!(server.requests().iter().all(|r| r.path.starts_with("/mirror/")), "no other address is asked");
}

/// Some mirrors say that a file is empty until it is fetched.
#[test]
fn a_size_of_nothing_is_not_believed() {
    let (cache, server) = start();
    server.fault(CONFIG, Fault::EmptyHead);
    let path = server.hub(cache.path()).file(CONFIG).unwrap();
    assert!(fs::read(path).unwrap() == fs::read(golden(TIED).join(CONFIG)).unwrap());
    server.put(COMMIT, "empty.txt", Vec::new());
    assert!(fs::read(server.hub(cache.path()).file("empty.txt").unwrap()).unwrap().is_empty());
}

/// As caches are that others filled and that are mounted to be read: no lock can be made, and what Python did not need is missing.
#[test]
fn a_cache_that_is_only_read_is_enough() {
    let (cache, server) = start();
    let folder = server.hub(cache.path()).checkpoint().unwrap().folder().unwrap().to_path_buf();
    for file in ["tokenizer_config.json", "generation_config.json"] {
        let path = folder.join(file);
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).unwrap();
        }
        let blob = cache.path().join("models--org--tiny/blobs");
        // The blob of the file that is missing, so that it would have to be fetched.
        let bytes = fs::read(golden(TIED).join(file)).unwrap_or_default();
        let _ = fs::remove_file(blob.join(&crate::support::hub_server::sha256(&bytes)[..40]));
    }
    fs::remove_dir_all(cache.path().join(".locks")).unwrap();
    fs::write(cache.path().join(".locks"), "in the way").unwrap();
    let checkpoint = server.hub(cache.path()).checkpoint().unwrap();
    assert_eq!(checkpoint.folder().unwrap(), folder);
    // What is needed is not done without.
    fs::remove_file(folder.join(CONFIG)).unwrap();
    let bytes = fs::read(golden(TIED).join(CONFIG)).unwrap();
    let blob = &crate::support::hub_server::sha256(&bytes)[..40];
    // Where links need rights, the file of the snapshot was the blob.
    let _ = fs::remove_file(cache.path().join("models--org--tiny/blobs").join(blob));
    assert!(matches!(server.hub(cache.path()).checkpoint().unwrap_err(), Error::Io { .. }));
}
