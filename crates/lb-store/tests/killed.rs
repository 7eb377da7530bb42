//! SIGKILL at any moment: what was acknowledged is there, and nothing else is served.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lb_store::ObjectKind::{Briefing, Session};
use lb_store::index::{Acquired, EmbeddedIndex, Index};
use lb_store::{Error, ObjectId, Store, SystemClock};
use tempfile::TempDir;

use crate::support::{DAY, about, body, files, fingerprint, journal, now, open, tenant};

/// Tells the writer where.
const PLACE: &str = "LB_STORE_TEST_PLACE";
/// Tells it the port of a service with a bucket, which is used instead of a folder.
const PORT: &str = "LB_STORE_TEST_PORT";
/// Each is a process that is killed.
const ROUNDS: u64 = 14;

fn record(number: u64) -> Vec<u8> {
    body(number, 200 + 37 * number as usize % 5000)
}

/// Half of them travel in pieces.
fn length(seed: u64) -> usize {
    if seed.is_multiple_of(2) { 30_000 } else { (17 << 20) + seed as usize % 1000 }
}

fn store_at(place: &Path, port: Option<u16>) -> Store {
    #[cfg(feature = "s3")]
    if let Some(port) = port {
        return crate::s3::open(port);
    }
    assert_eq!(port, None);
    open(&place.join("store"))
}

/// Writes until it is killed, and says what was acknowledged. No test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the others kill"]
async fn writer() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place = Path::new(&place);
    let store = store_at(place, std::env::var(PORT).ok().and_then(|port| port.parse().ok()));
    let index = EmbeddedIndex::open(&place.join("index.redb"), Arc::new(SystemClock)).await.unwrap();
    let first = now();
    let journal = journal("j");
    let mut number = match store.read_journal(&journal, 0).await {
        Ok(read) => read.len() as u64,
        Err(Error::Absent { .. }) => 0,
        Err(error) => panic!("{error}"),
    };
    println!("\nACK start");
    for seed in first.. {
        let Acquired::Lease(lease) = index.acquire("j", "writer", Duration::from_mins(1)).await.unwrap()
        else {
            panic!("held by no other");
        };
        println!("ACK token {}", lease.token);
        let key = format!("{seed}");
        index.touch(&key, seed, None).await.unwrap();
        println!("ACK entry {seed}");
        let id = store.put(Session, &about(), body(seed, length(seed))).await.unwrap();
        println!("ACK object {id} {seed}");
        store.append_fenced(&journal, number, &record(number), lease.token).await.unwrap();
        println!("ACK record {number}");
        number += 1;
        let gone = store.put(Briefing, &about(), body(seed, 5000)).await.unwrap();
        store.remove(Briefing, &tenant(), &gone).await.unwrap();
        println!("ACK removed {gone}");
    }
}

#[derive(Default)]
struct Acknowledged {
    objects: HashMap<ObjectId, u64>,
    removed: Vec<ObjectId>,
    entries: Vec<u64>,
    tokens: Vec<u64>,
    records: Option<u64>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["ACK", "object", id, seed] => {
                self.objects.insert(id.parse().unwrap(), seed.parse().unwrap());
            }
            ["ACK", "removed", id] => self.removed.push(id.parse().unwrap()),
            ["ACK", "entry", seed] => self.entries.push(seed.parse().unwrap()),
            ["ACK", "token", token] => self.tokens.push(token.parse().unwrap()),
            ["ACK", "record", number] => self.records = self.records.max(Some(number.parse().unwrap())),
            _ => {}
        }
    }

    async fn check(&self, store: &Store, place: &Path) {
        let into = TempDir::new().unwrap();
        for (id, seed) in &self.objects {
            let got = store.get(Session, &tenant(), id, &fingerprint(), into.path()).await.unwrap();
            assert!(std::fs::read(&got.path).unwrap() == body(*seed, length(*seed)), "{seed}");
            std::fs::remove_file(got.path).unwrap();
        }
        for id in &self.removed {
            let got = store.get(Briefing, &tenant(), id, &fingerprint(), into.path()).await;
            assert!(matches!(got, Err(Error::Absent { .. })), "{got:?}");
        }
        // Whatever else is found was acknowledged to nobody, and is whole.
        for kind in [Session, Briefing] {
            let found = store.find(kind, &tenant()).await.unwrap();
            assert!(found.damaged.is_empty(), "{found:?}");
            for manifest in found.manifests {
                if !self.objects.contains_key(&manifest.sha256) {
                    let got = store.get(kind, &tenant(), &manifest.sha256, &fingerprint(), into.path()).await;
                    std::fs::remove_file(got.unwrap().path).unwrap();
                }
            }
        }
        if let Some(last) = self.records {
            let read = store.read_journal(&journal("j"), 0).await.unwrap();
            assert!(read.len() as u64 > last, "{} records, {last} acknowledged", read.len());
            for (number, bytes) in (0..).zip(read) {
                assert!(bytes == record(number), "record {number}");
            }
        }
        assert!(self.tokens.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", self.tokens);
        let index = EmbeddedIndex::open(&place.join("index.redb"), Arc::new(SystemClock)).await.unwrap();
        let entries = index.least_recent(usize::MAX).await.unwrap();
        for seed in &self.entries {
            assert!(
                entries.iter().any(|entry| entry.key == seed.to_string() && entry.bytes == *seed),
                "{seed}"
            );
        }
    }
}

/// Kills writers, one after the other, and looks at what is there after each.
async fn kill_writers(place: &Path, port: Option<u16>, rounds: u64) {
    let mut acknowledged = Acknowledged::default();
    for round in 0..rounds {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::writer", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, place).stdout(Stdio::piped());
        if let Some(port) = port {
            command.env(PORT, port.to_string());
        }
        let mut writer = command.spawn().unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        // After so many acknowledgements, and a moment that is another each time.
        let before = 1 + round * 3 % 11;
        for line in lines.by_ref().filter(|line| line.starts_with("ACK")).take(before as usize) {
            acknowledged.note(&line);
        }
        std::thread::sleep(Duration::from_millis(round * 29 % 97));
        writer.kill().unwrap();
        writer.wait().unwrap();
        // It may have said more before it ended; the last line may be cut.
        let rest: Vec<_> = lines.collect();
        for line in &rest[..rest.len().saturating_sub(1)] {
            acknowledged.note(line);
        }
        acknowledged.check(&store_at(place, port), place).await;
    }
    assert!(acknowledged.objects.len() > 3 && acknowledged.records > Some(3), "the writers got nowhere");
    let store = store_at(place, port);
    let swept = store.sweep(now() + 2 * DAY).await.unwrap();
    eprintln!("{} objects acknowledged, swept {swept:?}", acknowledged.objects.len());
    acknowledged.check(&store, place).await;
    let again = store.sweep(now() + 2 * DAY).await.unwrap();
    assert_eq!((again.orphans, again.unfinished), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_and_nothing_else_is_served() {
    let place = TempDir::new().unwrap();
    kill_writers(place.path(), None, ROUNDS).await;
    let count = |folder| files(&place.path().join("store").join(folder)).len();
    assert_eq!(count("objects"), count("manifests"));
    assert!(files(place.path()).iter().all(|path| !path.to_str().unwrap().contains('#')));
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_the_bucket_and_nothing_else_is_served() {
    let Some(server) = crate::s3::Server::start() else { return };
    let place = TempDir::new().unwrap();
    kill_writers(place.path(), Some(server.port), ROUNDS).await;
}
