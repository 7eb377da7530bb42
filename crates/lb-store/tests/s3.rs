//! A bucket on a server that speaks S3: `moto_server` on PATH, or what `LB_TEST_S3_SERVER` names, started for each test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lb_store::ObjectKind::Briefing;
use lb_store::{Error, Store, StoreOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{DAY, about, body, fingerprint, journal, now, tenant, until};
use crate::{journals, objects, races};

const SECRET: &str = "a-secret-key-of-a-test";

pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start() -> Option<Self> {
        let program = std::env::var("LB_TEST_S3_SERVER").unwrap_or_else(|_| "moto_server".to_owned());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut process) = process else {
            eprintln!("skipped: no {program}");
            return None;
        };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                let server = Self { process, port };
                server.put("/bucket");
                return Some(server);
            }
            if let Some(status) = process.try_wait().unwrap() {
                eprintln!("skipped: {program} ended with {status}");
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no answer from {program}");
    }

    fn put(&self, path: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let host = format!("127.0.0.1:{}", self.port);
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn store(&self) -> Store {
        open(self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn options(port: u16) -> StoreOptions {
    StoreOptions::default()
        .with_setting("aws_endpoint", format!("http://127.0.0.1:{port}"))
        .with_setting("aws_allow_http", "true")
        .with_setting("aws_region", "us-east-1")
        .with_setting("aws_access_key_id", "a-key-id-of-a-test")
        .with_setting("aws_secret_access_key", SECRET)
}

pub(crate) fn open(port: u16) -> Store {
    Store::open("s3://bucket/some/folder", options(port)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_a_store() {
    let Some(server) = Server::start() else { return };
    let store = server.store();
    objects::round_trip(&store).await;
    journals::numbered(&store).await;
    journals::fenced(&store).await;
    let id = store.put(Briefing, &until(now() + DAY), body(1, 1000)).await.unwrap();
    let kept = store.put(Briefing, &about(), body(2, 1000)).await.unwrap();
    assert_eq!(store.sweep(now() + DAY).await.unwrap().expired, 0);
    assert_eq!(store.sweep(now() + 2 * DAY).await.unwrap().expired, 1);
    let into = TempDir::new().unwrap();
    let got = store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await;
    assert!(matches!(got, Err(Error::Absent { .. })), "{got:?}");
    store.get(Briefing, &tenant(), &kept, &fingerprint(), into.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_meet_in_a_bucket() {
    let Some(server) = Server::start() else { return };
    let stores = [server.store(), server.store(), server.store()];
    races::one_number(&stores).await;
    races::one_object(&stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_cut_is_not_there() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.port).await;
    let (store, into) = (open(proxy.port), TempDir::new().unwrap());
    let put = tokio::spawn({
        let store = store.clone();
        async move { store.put(Briefing, &about(), body(1, 60 << 20)).await }
    });
    while proxy.requests.load(Ordering::SeqCst) < 6 {
        assert!(!put.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    let direct = server.store();
    assert!(direct.find(Briefing, &tenant()).await.unwrap().manifests.is_empty());
    let id = direct.put(Briefing, &about(), body(1, 60 << 20)).await.unwrap();
    direct.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_acknowledgement_is_no_second_record() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.port).await;
    let (store, journal) = (open(proxy.port), journal("j"));
    store.append(&journal, 0, b"first").await.unwrap();
    for number in 1..4 {
        proxy.swallow.store(1, Ordering::SeqCst);
        // Whether it was told or not, it is there, and told again it is the same.
        let first = store.append(&journal, number, b"next").await;
        assert_eq!(proxy.swallow.load(Ordering::SeqCst), 0, "{first:?}");
        store.append(&journal, number, b"next").await.unwrap();
        let other = store.append(&journal, number, b"other").await;
        assert!(matches!(other, Err(Error::Taken { .. })), "{other:?}");
    }
    assert_eq!(server.store().read_journal(&journal, 0).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_writes_over_what_is_there_gets_no_journal() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.port).await;
    proxy.deaf.store(true, Ordering::SeqCst);
    let store = open(proxy.port);
    let refused = store.append(&journal("j"), 0, b"record").await;
    assert!(matches!(&refused, Err(Error::Backend { reason, .. }) if reason.contains("heed")), "{refused:?}");
    // Objects need nothing of that kind.
    objects::round_trip(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_shown_nowhere() {
    let Some(server) = Server::start() else { return };
    let store = Store::open("s3://no-such-bucket", options(server.port)).unwrap();
    let put = store.put(Briefing, &about(), body(1, 1000)).await.unwrap_err();
    let text = format!("{put} {put:?} {store:?} {:?}", options(1));
    assert!(!text.contains(SECRET) && !text.contains("a-key-id-of-a-test"), "{text}");
    let setting = Store::open("s3://bucket", options(1).with_setting("aws_no_such", "x"));
    assert!(matches!(setting, Err(Error::Field { field: "settings", .. })), "{setting:?}");
}

/// Between a client and a server: swallows answers to records that are written, or conditions.
struct Proxy {
    port: u16,
    swallow: Arc<AtomicUsize>,
    /// Takes away the condition that nothing is there.
    deaf: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(upstream: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (swallow, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let deaf = Arc::<AtomicBool>::default();
        let (armed, seen, strips) = (swallow.clone(), requests.clone(), deaf.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = tokio::net::TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                tokio::spawn(pass(client, server, armed.clone(), seen.clone(), strips.clone()));
            }
        });
        Self { port, swallow, deaf, requests }
    }
}

async fn pass(
    mut client: tokio::net::TcpStream,
    mut server: tokio::net::TcpStream,
    armed: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
    strips: Arc<AtomicBool>,
) -> Option<()> {
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut a_record = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read.ok().filter(|read| *read > 0)?;
                let head = String::from_utf8_lossy(&up[..read.min(2000)]).into_owned();
                if head.contains(" HTTP/1.1\r\n") {
                    seen.fetch_add(1, Ordering::SeqCst);
                    a_record = head.starts_with("PUT ") && head.contains("/journals/");
                }
                if strips.load(Ordering::SeqCst) && let Some(at) = head.find("if-none-match:") {
                    up[at..at + 2].copy_from_slice(b"xx");
                }
                server.write_all(&up[..read]).await.ok()?;
            }
            read = server.read(&mut down) => {
                let read = read.ok().filter(|read| *read > 0)?;
                if a_record && armed.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    return None;
                }
                client.write_all(&down[..read]).await.ok()?;
            }
        }
    }
}
