//! The index on a server: `redis-server`, where it is installed, started for each test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lb_store::index::{self, Acquired, Index, RedisIndex};
use lb_store::{Error, SystemClock};
use tempfile::TempDir;

use crate::index::{MINUTE, contended, leases, take, uses};

const PASSWORD: &str = "a-password-of-a-test";

struct Server {
    process: Child,
    folder: TempDir,
    port: u16,
}

impl Server {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = TempDir::new().unwrap();
        let Some(process) = run(folder.path(), port) else {
            eprintln!("skipped: no redis-server");
            return None;
        };
        Some(Self { process, folder, port })
    }

    async fn index(&self) -> RedisIndex {
        let address = format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port);
        for _ in 0..200 {
            if let Ok(index) = RedisIndex::connect(&address, "test").await {
                return index;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no answer from redis-server");
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(folder: &Path, port: u16) -> Option<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_leases_and_counts() {
    let Some(server) = Server::start() else { return };
    let index = server.index().await;
    leases(&index).await;
    uses(&index, async |time| tokio::time::sleep(time).await).await;
    contended(Arc::new(index)).await;
}

#[tokio::test]
async fn a_lease_ends_by_the_servers_clock() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (server.index().await, server.index().await);
    let first = take(&one, "a", "one", Duration::from_millis(300)).await;
    let held = two.acquire("a", "two", MINUTE).await.unwrap();
    let Acquired::Held { wait, .. } = held else { panic!("{held:?}") };
    assert!(wait <= Duration::from_millis(300));
    tokio::time::sleep(wait + Duration::from_millis(20)).await;
    let second = take(&two, "a", "two", MINUTE).await;
    assert!(second.token > first.token);
    for lost in [one.renew(&first, MINUTE).await.map(drop), one.release(&first).await] {
        assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
    }
    two.renew(&second, MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_with_what_it_acknowledged() {
    let Some(mut server) = Server::start() else { return };
    let index = server.index().await;
    let first = take(&index, "a", "one", MINUTE).await;
    index.touch("x", 7, None).await.unwrap();
    server.kill();
    let asked = index.acquire("a", "two", MINUTE).await;
    assert!(matches!(asked, Err(Error::Backend { .. })), "{asked:?}");
    server.process = run(server.folder.path(), server.port).unwrap();
    server.index().await;
    // The same connection finds it again.
    let mut renewed = index.renew(&first, MINUTE).await;
    for _ in 0..100 {
        if renewed.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        renewed = index.renew(&first, MINUTE).await;
    }
    assert_eq!(renewed.unwrap().token, first.token);
    assert_eq!(index.least_recent(9).await.unwrap()[0].bytes, 7);
    assert!(take(&index, "b", "two", MINUTE).await.token > first.token);

    // Even one that lost all leases with larger tokens.
    server.kill();
    let empty = TempDir::new().unwrap();
    server.process = run(empty.path(), server.port).unwrap();
    server.folder = empty;
    let index = server.index().await;
    let after = take(&index, "a", "two", MINUTE).await;
    assert!(after.token > first.token);
    let lost = index.renew(&first, MINUTE).await;
    assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
}

#[tokio::test]
async fn a_password_is_shown_nowhere() {
    let Some(server) = Server::start() else { return };
    let index = server.index().await;
    assert!(!format!("{index:?}").contains(PASSWORD), "{index:?}");
    let port = server.port;
    for address in [
        format!("redis://:wrong-{PASSWORD}@127.0.0.1:{port}"),
        format!("redis://:{PASSWORD}@127.0.0.1:1"),
        format!("redis://:{PASSWORD}@127.0.0.1:x/y"),
        format!("redis://:{PASSWORD}@"),
    ] {
        let refused = index::open(&address, Arc::new(SystemClock)).await.unwrap_err();
        let text = format!("{refused} {refused:?}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
    let space = RedisIndex::connect(&format!("redis://:{PASSWORD}@127.0.0.1:{port}"), "a}b").await;
    assert!(matches!(space, Err(Error::Field { field: "space", .. })), "{space:?}");
}

/// Tells the child where the server with TLS is.
#[cfg(feature = "redis-tls")]
const TLS_PORT: &str = "LB_STORE_TEST_TLS_PORT";

/// No test by itself: which certificates are trusted is settled when a process begins.
#[cfg(feature = "redis-tls")]
#[tokio::test]
#[ignore = "the process that trusts the certificate"]
async fn client_of_tls() {
    let Ok(port) = std::env::var(TLS_PORT) else { return };
    let address = format!("rediss://:{PASSWORD}@localhost:{port}");
    leases(&*index::open(&address, Arc::new(SystemClock)).await.unwrap()).await;
}

#[cfg(feature = "redis-tls")]
#[test]
fn a_server_with_tls_is_asked_where_its_certificate_is_trusted() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let extensions = "subjectAltName=DNS:localhost";
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            extensions,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", &at("key.pem"), "-out", &at("cert.pem")])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no openssl");
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--requirepass",
            PASSWORD,
        ])
        .args(["--save", "", "--tls-auth-clients", "no", "--tls-cert-file", &at("cert.pem")])
        .args(["--tls-key-file", &at("key.pem"), "--tls-ca-cert-file", &at("cert.pem"), "--dir", &at("")])
        .stdout(Stdio::null())
        .spawn();
    let Ok(process) = server else {
        eprintln!("skipped: no redis-server");
        return;
    };
    let _server = Server { process, folder: TempDir::new().unwrap(), port };
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let client = |trusted: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "redis::client_of_tls", "--ignored", "--test-threads=1"]);
        command.env(TLS_PORT, port.to_string()).env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        command.output().unwrap()
    };
    let trusting = client(&at("cert.pem"));
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stdout));
    // Nobody else talks to it.
    let other = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            extensions,
            "-keyout",
            &at("other-key.pem"),
            "-out",
            &at("other.pem"),
        ])
        .stderr(Stdio::null())
        .status();
    assert!(other.unwrap().success());
    let refusing = client(&at("other.pem"));
    let output = String::from_utf8_lossy(&refusing.stdout);
    assert!(!refusing.status.success() && output.contains("certificate"), "{output}");
}
