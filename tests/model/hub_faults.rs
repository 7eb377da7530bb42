//! A hub that breaks: each way has its error, and nothing half-written can be loaded.

use std::fs;
use std::time::{Duration, Instant};

use lb_model::hub::{Failure, Hub, Network, Retries};
use lb_model::{Error, Worker};
use tempfile::TempDir;

use super::hub::{failure, in_repository};
use crate::support::checkpoints::{TIED, golden};
use crate::support::hub_server::{COMMIT, Fault, HubServer, sha256};

const WEIGHTS: &str = "model.safetensors";
const BIG: &str = "big.gguf";
/// Short enough for a test, long enough for a busy machine.
const SHORT: Duration = Duration::from_secs(1);

fn start() -> (TempDir, HubServer) {
    (TempDir::new().unwrap(), HubServer::of(&golden(TIED)))
}

fn big() -> Vec<u8> {
    (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Files that a snapshot shows or that lie under the name of a whole blob.
fn visible(cache: &TempDir, file: &str, content: &[u8]) -> bool {
    let snapshot = in_repository(cache, &format!("snapshots/{COMMIT}/{file}"));
    snapshot.symlink_metadata().is_ok()
        || in_repository(cache, &format!("blobs/{}", sha256(content))).exists()
}

fn part_len(cache: &TempDir, content: &[u8]) -> Option<u64> {
    let part = in_repository(cache, &format!("blobs/{}.incomplete", sha256(content)));
    fs::metadata(part).ok().map(|m| m.len())
}

fn loads(hub: &Hub) -> Worker {
    hub.checkpoint().unwrap().load(&candle_core::Device::Cpu, None).unwrap()
}

#[test]
fn a_cut_connection_is_resumed_by_the_next_call() {
    let (cache, server) = start();
    let weights = fs::read(golden(TIED).join(WEIGHTS)).unwrap();
    server.fault(WEIGHTS, Fault::Cut(100_000));
    let hub = server.hub(cache.path()).retries(Retries::NONE);
    let error = hub.checkpoint().unwrap_err();
    let size = Some(weights.len() as u64);
    assert_eq!(failure(&error, WEIGHTS), Failure::Cut { got: 100_000, size });
    assert!(!visible(&cache, WEIGHTS, &weights));
    assert_eq!(part_len(&cache, &weights), Some(100_000));
    assert!(matches!(
        failure(
            &hub.clone().revision(COMMIT).network(Network::Offline).checkpoint().unwrap_err_at_main(),
            WEIGHTS
        ),
        Failure::NotCached { .. }
    ));
    server.requests();
    server.heal();
    loads(&hub);
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .filter(|r| r.to_storage())
        .map(|r| r.header("range").map(str::to_string))
        .collect();
    assert_eq!(ranges, [Some("bytes=100000-".to_string())]);
    assert_eq!(part_len(&cache, &weights), None);
}

/// Lets [`failure`] check an error of a commit like one of `main`.
trait AtMain {
    fn unwrap_err_at_main(self) -> Error;
}

impl<T: std::fmt::Debug> AtMain for Result<T, Error> {
    fn unwrap_err_at_main(self) -> Error {
        match self.unwrap_err() {
            Error::Hub { repo, file, failure, revision } => {
                assert_eq!(revision, COMMIT);
                Error::Hub { repo, file, failure, revision: "main".to_string() }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_big_file_goes_on_within_the_call() {
    let (cache, server) = start();
    server.put(COMMIT, BIG, big());
    server.fault(BIG, Fault::CutOnce(1_500_000));
    let path = server.hub(cache.path()).file(BIG).unwrap();
    assert!(fs::read(path).unwrap() == big());
    assert!(server.requests().iter().any(|r| r.header("range") == Some("bytes=1500000-")));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let (cache, server) = start();
    server.put(COMMIT, BIG, big());
    let hub = server.hub(cache.path()).retries(Retries::NONE);
    server.fault(BIG, Fault::Cut(200_000));
    assert!(matches!(failure(&hub.file(BIG).unwrap_err(), BIG), Failure::Cut { got: 200_000, .. }));
    server.fault(BIG, Fault::NoRange);
    assert!(fs::read(hub.file(BIG).unwrap()).unwrap() == big());
}

#[test]
fn what_lies_in_a_partial_file_is_not_trusted() {
    for (what, junk) in [
        ("wrong beginning", vec![7; 1000]),
        ("too long", vec![7; 4_000_000]),
        ("wrong but of full size", vec![7; 3_000_000]),
        ("complete", big()),
    ] {
        let (cache, server) = start();
        server.put(COMMIT, BIG, big());
        let part = in_repository(&cache, &format!("blobs/{}.incomplete", sha256(&big())));
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        fs::write(&part, junk).unwrap();
        assert!(fs::read(server.hub(cache.path()).file(BIG).unwrap()).unwrap() == big(), "{what}");
        assert!(!part.exists(), "{what}");
    }
}

#[test]
fn wrong_bytes_are_not_cached() {
    let (cache, server) = start();
    let weights = fs::read(golden(TIED).join(WEIGHTS)).unwrap();
    server.fault(WEIGHTS, Fault::WrongBytes);
    let hub = server.hub(cache.path());
    let Failure::Mismatch { expected, got } = failure(&hub.checkpoint().unwrap_err(), WEIGHTS) else {
        panic!("not a mismatch");
    };
    assert!(expected == sha256(&weights) && got != expected && got.len() == 64);
    assert!(!visible(&cache, WEIGHTS, &weights));
    assert_eq!(part_len(&cache, &weights), None);
    server.heal();
    loads(&hub);
}

#[test]
fn silent_and_slow_servers_end() {
    for fault in [Fault::Silent, Fault::Trickle] {
        let (cache, server) = start();
        server.put(COMMIT, BIG, big());
        server.fault(BIG, fault);
        let started = Instant::now();
        let error = server.hub(cache.path()).timeout(SHORT).file(BIG).unwrap_err();
        assert_eq!(failure(&error, BIG), Failure::TimedOut { after: SHORT }, "{fault:?}");
        assert!(started.elapsed() < 10 * SHORT, "{fault:?}: {:?}", started.elapsed());
    }
    // A port that accepts and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (cache, url) = (TempDir::new().unwrap(), format!("http://{}", listener.local_addr().unwrap()));
    let hub =
        Hub::new("org/tiny").unwrap().endpoint(url).cache_dir(cache.path()).network(Network::CacheFirst);
    let error = hub.clone().timeout(SHORT).checkpoint().unwrap_err();
    assert_eq!(failure(&error, "config.json"), Failure::TimedOut { after: SHORT });
    drop(listener);
    let error = hub.clone().checkpoint().unwrap_err();
    assert!(matches!(failure(&error, "config.json"), Failure::Unreachable { .. }), "{error:?}");
    let error = hub.timeout(Duration::ZERO).checkpoint().unwrap_err();
    assert!(matches!(error, Error::Config { field: "timeout", .. }), "{error:?}");
}

#[test]
fn announced_sizes_are_not_believed() {
    let (cache, server) = start();
    // Beyond any memory and any disk: the bytes that come are what counts.
    server.put(COMMIT, BIG, big());
    server.fault(BIG, Fault::Huge(1 << 50));
    let error = server.hub(cache.path()).file(BIG).unwrap_err();
    assert_eq!(failure(&error, BIG), Failure::Cut { got: 3_000_000, size: Some(1 << 50) });
    server.fault("config.json", Fault::Huge(1 << 50));
    let error = server.hub(cache.path()).checkpoint().unwrap_err();
    assert!(matches!(failure(&error, "config.json"), Failure::TooLarge { size: 0x4_0000_0000_0000, .. }));
    // The hub says one size, the storage another.
    let other = TempDir::new().unwrap();
    for (header, size) in [("x-linked-size", "5"), ("x-linked-size", "99999999")] {
        server.heal();
        server.fault(BIG, Fault::Header(header, size));
        let error = server.hub(other.path()).file(BIG).unwrap_err();
        assert_eq!(failure(&error, BIG), Failure::BadReply { header: "content-length" });
        assert!(!visible(&other, BIG, &big()));
    }
}

#[test]
fn a_body_without_end_ends() {
    let (cache, server) = start();
    server.fault("config.json", Fault::Endless);
    let error = server.hub(cache.path()).checkpoint().unwrap_err();
    let Failure::TooLarge { size, limit } = failure(&error, "config.json") else { panic!("{error:?}") };
    assert!(size > limit && size < limit + (1 << 20));
    let blobs: Vec<_> = fs::read_dir(in_repository(&cache, "blobs")).unwrap().flatten().collect();
    assert!(blobs.is_empty(), "{blobs:?}");
    server.heal();
    loads(&server.hub(cache.path()));
}

#[test]
fn hostile_headers_write_nothing_outside_the_cache() {
    let bad = [
        ("etag", "\"../../../../escaped\"", "etag"),
        ("etag", "\"/tmp/lb-escaped\"", "etag"),
        ("etag", "\"\"", "etag"),
        ("etag", "", "etag"),
        ("x-repo-commit", "../../escaped", "x-repo-commit"),
        ("x-repo-commit", "/tmp", "x-repo-commit"),
        ("x-repo-commit", "", "x-repo-commit"),
    ];
    for (name, value, header) in bad {
        let (outer, server) = start();
        let cache = outer.path().join("a/b/c/cache");
        server.fault("config.json", Fault::Header(name, value));
        let error = server.hub(&cache).checkpoint().unwrap_err();
        assert_eq!(failure(&error, "config.json"), Failure::BadReply { header }, "{name}: {value}");
        assert!(!outer.path().join("a").exists(), "{name}: {value}");
    }
    // A commit other than the one asked for.
    let (cache, server) = start();
    server
        .fault("tokenizer.json", Fault::Header("x-repo-commit", "00000000000000000000000000000000000000ee"));
    let error = server.hub(cache.path()).checkpoint().unwrap_err();
    assert_eq!(failure(&error, "tokenizer.json"), Failure::BadReply { header: "x-repo-commit" });
    // Redirects that go nowhere.
    for target in ["", "ftp://x/y", "http://", "nowhere", "http://127.0.0.1:9/x"] {
        server.put(COMMIT, BIG, big());
        server.fault(BIG, Fault::Header("location", target));
        let error = server.hub(cache.path()).file(BIG).unwrap_err();
        let failure = failure(&error, BIG);
        assert!(
            matches!(
                failure,
                Failure::BadReply { header: "location" }
                    | Failure::Unreachable { .. }
                    | Failure::Status { .. }
            ),
            "{target:?}: {failure:?}"
        );
    }
}

#[test]
fn other_refusals_keep_their_status() {
    let (cache, server) = start();
    for status in [400, 429, 500, 503] {
        server.fault("config.json", Fault::Status(status, ""));
        let error = server.hub(cache.path()).checkpoint().unwrap_err();
        let expected = if status == 400 { 1 } else { 3 };
        let Failure::Status { status: got, requests, .. } = failure(&error, "config.json") else {
            panic!("{error:?}");
        };
        assert_eq!((got, requests), (status, expected));
    }
    for (status, code) in [(401, ""), (403, "GatedRepo")] {
        server.fault("config.json", Fault::Status(status, code));
        let error = server.hub(cache.path()).checkpoint().unwrap_err();
        assert!(matches!(failure(&error, "config.json"), Failure::Denied { status: s, .. } if s == status));
    }
    // The hub hides private repositories behind a 401.
    server.fault("config.json", Fault::Status(401, "RepoNotFound"));
    let error = server.hub(cache.path()).checkpoint().unwrap_err();
    assert!(matches!(failure(&error, "config.json"), Failure::NoRepository { .. }));
}

#[test]
fn an_optional_file_may_be_out_of_reach_only_when_all_else_is_cached() {
    const TEMPLATE: &str = "chat_template.jinja";
    let (cache, server) = start();
    server.fault(TEMPLATE, Fault::Status(503, ""));
    let hub = server.hub(cache.path());
    for _ in 0..2 {
        let failure = failure(&hub.checkpoint().unwrap_err(), TEMPLATE);
        assert!(matches!(failure, Failure::Status { status: 503, .. }), "{failure:?}");
    }
    server.heal();
    hub.checkpoint().unwrap();
    fs::remove_file(in_repository(&cache, &format!("snapshots/{COMMIT}/{TEMPLATE}"))).unwrap();
    server.fault(TEMPLATE, Fault::Status(503, ""));
    let folder = hub.checkpoint().unwrap().folder().unwrap().to_path_buf();
    assert!(!folder.join(TEMPLATE).exists());
    server.heal();
    hub.checkpoint().unwrap();
    assert!(folder.join(TEMPLATE).is_file());
}

#[test]
fn a_held_lock_is_waited_for_and_then_named() {
    let (cache, server) = start();
    server.put(COMMIT, BIG, big());
    let lock = cache.path().join(format!(".locks/models--org--tiny/{}.lock", sha256(&big())));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let hub = server.hub(cache.path());
    let error = hub.clone().timeout(SHORT).file(BIG).unwrap_err();
    assert_eq!(failure(&error, BIG), Failure::Busy { lock });
    let waiting = std::thread::spawn(move || hub.file(BIG).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    assert!(fs::read(waiting.join().unwrap()).unwrap() == big());
}

#[test]
fn threads_that_fetch_the_same_checkpoint_share_it() {
    let (cache, server) = start();
    let hub = server.hub(cache.path());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let hub = hub.clone();
            std::thread::spawn(move || hub.checkpoint().map(|_| ()))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    let downloads = server.requests().iter().filter(|r| r.to_storage()).count();
    assert_eq!(downloads, 1, "the weights are fetched once");
    loads(&hub);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named_and_what_came_is_kept() {
    // Without the right to: the mapping is tested in the crate.
    let Some(disk) = crate::support::small_disk::SmallDisk::mount("1m") else { return };
    let server = HubServer::of(&golden(TIED));
    server.put(COMMIT, BIG, big());
    let hub = server.hub(disk.path());
    let Failure::DiskFull { path } = failure(&hub.file(BIG).unwrap_err(), BIG) else {
        panic!("not a full disk");
    };
    assert!(path.starts_with(disk.path()) && path.extension().is_some_and(|e| e == "incomplete"));
    let kept = fs::metadata(&path).unwrap().len();
    assert!(kept > 500_000 && kept < 1_100_000, "{kept}");
    assert!(!visible(disk.folder(), BIG, &big()));
    // More room: the next call goes on.
    disk.grow("8m");
    server.requests();
    assert!(fs::read(hub.file(BIG).unwrap()).unwrap() == big());
    assert!(server.requests().iter().any(|r| r.header("range") == Some(&format!("bytes={kept}-"))));
}

#[test]
#[cfg(unix)]
fn a_cache_that_cannot_be_written_is_an_io_error() {
    let server = HubServer::of(&golden(TIED));
    let blocked = TempDir::new().unwrap();
    let file = blocked.path().join("a file");
    fs::write(&file, "").unwrap();
    match server.hub(&file).checkpoint().unwrap_err() {
        Error::Io { path, .. } => assert!(path.starts_with(&file)),
        other => panic!("{other:?}"),
    }
}
