//! What stands before a loopback server: TLS with a certificate of our own authority, and a proxy.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The PEM file of the authority, or another file beside it.
pub fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tls").join(name)
}

fn server_config() -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(tls_file("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// Where `url` is, as `http://127.0.0.1:port` has it.
fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

/// Serves connections on a thread that lives as long as the test's process.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The server at `url` over TLS: its address.
pub fn with_tls(url: &str) -> SocketAddr {
    let (config, backend) = (server_config(), address(url));
    listen(move |stream| {
        // A client that does not trust us hangs up; that is its right.
        let _ = exchange(&config, stream, backend);
    })
}

/// One request and its reply, which ends with the backend's connection.
fn exchange(config: &Arc<ServerConfig>, stream: TcpStream, backend: SocketAddr) -> io::Result<()> {
    let mut client = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
    let request = read_request(&mut client)?;
    let mut server = TcpStream::connect(backend)?;
    server.write_all(&request)?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    client.write_all(&reply)?;
    client.conn.send_close_notify();
    client.flush()
}

/// A request's head, and as much of a body as it announces.
fn read_request(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    source.read_exact(&mut body)?;
    bytes.extend(body);
    Ok(bytes)
}

/// A proxy that leads to one server, whatever it is asked for.
pub struct Proxy {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// A proxy on loopback.
    pub fn to(backend: SocketAddr) -> Self {
        let targets = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&targets);
        let address = listen(move |stream| {
            let _ = tunnel(stream, backend, &seen);
        });
        Self { address, targets }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The hosts that were asked for, with their ports.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

fn tunnel(mut client: TcpStream, backend: SocketAddr, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let head = String::from_utf8(read_request(&mut client)?).unwrap();
    let target = head.split(' ').nth(1).unwrap_or_default().to_string();
    assert!(head.starts_with("CONNECT "), "{head}");
    seen.lock().unwrap().push(target);
    let mut server = TcpStream::connect(backend)?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || io::copy(&mut up, &mut down));
    io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}
