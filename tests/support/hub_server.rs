//! A loopback server that answers like the Hugging Face hub, and breaks on demand.
//!
//! Small files are served at their address. Weights redirect to `localhost`, which stands for a storage host: another
//! name than the hub's, so that a leaked token shows.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_model::hub::{Hub, Network, Retries};

pub(crate) const REPO: &str = "org/tiny";
/// A name without an organisation, which leads to [`REPO`].
pub(crate) const OLD: &str = "tiny-classic";
/// What faults of the list of files are put under.
pub(crate) const LISTING: &str = "(list of files)";
pub(crate) const COMMIT: &str = "00000000000000000000000000000000000000aa";
pub(crate) const TOKEN: &str = "hf_loopback_secret";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// Two repetitions, pauses of a millisecond.
pub(crate) const QUICK: Retries =
    Retries { count: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_secs(2) };

/// What goes wrong with one file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// As `Cut`, once: later requests are answered whole.
    CutOnce(usize),
    /// The last byte is another one.
    WrongBytes,
    /// Headers, then nothing.
    Silent,
    /// A byte every now and then, for ever.
    Trickle,
    /// Ranges are ignored: every reply is the whole file.
    NoRange,
    /// A header of the first reply is replaced.
    Header(&'static str, &'static str),
    /// This status instead of the file, with an `x-error-code` unless it is empty.
    Status(u16, &'static str),
    /// So many requests get this status and this header instead of the file.
    Busy(usize, u16, &'static str, &'static str),
    /// So many requests get no reply at all.
    HangUp(usize),
    /// This status with this `x-error-code` and this `x-error-message`.
    Refusal(u16, &'static str, &'static str),
    /// A question for the file alone is answered as if it were empty.
    EmptyHead,
    /// The file is announced as so large, its bytes are as they are.
    Huge(u64),
    /// The storage sends a body without length that does not end.
    Endless,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ').map(str::to_string);
        let (method, path) = (words.next()?, words.next()?);
        let headers = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_string()))
            })
            .collect();
        Some(Self { method, path, headers })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether it went to the storage host.
    pub(crate) fn to_storage(&self) -> bool {
        self.path.starts_with("/storage/")
    }
}

#[derive(Default)]
struct State {
    /// Revision to commit, and commit to files.
    revisions: Mutex<BTreeMap<String, String>>,
    files: Mutex<BTreeMap<(String, String), Vec<u8>>>,
    faults: Mutex<HashMap<String, Fault>>,
    log: Mutex<Vec<Request>>,
    private: AtomicBool,
    /// A mirror: no `x-error-code`.
    terse: AtomicBool,
    /// The repository is a data set, and its JSON lies in the storage.
    dataset: AtomicBool,
    closed: AtomicBool,
}

pub(crate) struct HubServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    /// Serves the files of `folder` as the repository [`REPO`] at `main` and [`COMMIT`].
    pub(crate) fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&state, &stream, address));
            }
        });
        let server = Self { address, state, thread: Some(thread) };
        server.publish("main", COMMIT, folder);
        server
    }

    /// Lets `revision` stand for `commit`, with the files of `folder`.
    pub(crate) fn publish(&self, revision: &str, commit: &str, folder: &Path) {
        self.state.revisions.lock().unwrap().insert(revision.to_string(), commit.to_string());
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            self.put(commit, &name, fs::read(entry.path()).unwrap());
        }
    }

    pub(crate) fn put(&self, commit: &str, file: &str, bytes: Vec<u8>) {
        self.state.files.lock().unwrap().insert((commit.to_string(), file.to_string()), bytes);
    }

    pub(crate) fn remove(&self, file: &str) {
        self.state.files.lock().unwrap().remove(&(COMMIT.to_string(), file.to_string()));
    }

    pub(crate) fn fault(&self, file: &str, fault: Fault) {
        self.state.faults.lock().unwrap().insert(file.to_string(), fault);
    }

    pub(crate) fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// From now on every request needs [`TOKEN`].
    pub(crate) fn make_private(&self) {
        self.state.private.store(true, Ordering::SeqCst);
    }

    /// From now on the repository is a data set: `/datasets/org/tiny`.
    pub(crate) fn make_dataset(&self) {
        self.state.dataset.store(true, Ordering::SeqCst);
    }

    /// From now on a 404 does not say what is missing.
    pub(crate) fn make_terse(&self) {
        self.state.terse.store(true, Ordering::SeqCst);
    }

    /// The requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.state.log.lock().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// [`REPO`] on this server, with a cache in `folder`.
    pub(crate) fn hub(&self, folder: &Path) -> Hub {
        self.named(REPO, folder)
    }

    pub(crate) fn named(&self, name: &str, folder: &Path) -> Hub {
        let hub = Hub::new(name).unwrap().endpoint(self.url()).cache_dir(folder);
        hub.network(Network::CacheFirst).timeout(TIMEOUT).token(TOKEN).retries(QUICK)
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:?}", ring::digest::digest(&ring::digest::SHA256, bytes))
        .trim_start_matches("SHA256:")
        .to_string()
}

fn is_large(state: &State, file: &str) -> bool {
    let dataset = state.dataset.load(Ordering::SeqCst);
    let large = |end: &std::ffi::OsStr| end == "safetensors" || end == "gguf" || (dataset && end == "json");
    Path::new(file).extension().is_some_and(large)
}

fn serve(state: &State, stream: &TcpStream, address: SocketAddr) {
    let Some(request) = Request::read(stream) else { return };
    state.log.lock().unwrap().push(request.clone());
    // A client may hang up in the middle of a reply; that is its right.
    let _ = answer(state, stream, &request, address);
}

fn answer(state: &State, out: &TcpStream, request: &Request, address: SocketAddr) -> std::io::Result<()> {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let refuse = |status, code: &str| {
        let code = if state.terse.load(Ordering::SeqCst) { "" } else { code };
        reply(out, status, &[("x-error-code", code.to_string())], b"")
    };
    let allowed = request.header("authorization") == Some(&format!("Bearer {TOKEN}"));
    if state.private.load(Ordering::SeqCst) && !allowed && !request.to_storage() {
        return refuse(401, "GatedRepo");
    }
    let (kind, parts) = match parts[..] {
        ["datasets", ref rest @ ..] => ("datasets", rest.to_vec()),
        _ => ("models", parts),
    };
    let dataset = state.dataset.load(Ordering::SeqCst);
    let served = if dataset { "datasets" } else { "models" };
    match parts[..] {
        ["old", "name", "resolve", ..] => {
            let target = request.path.replace("/old/name/", &format!("/{REPO}/"));
            reply(out, 307, &[("location", target)], b"")
        }
        ["api", "models", OLD, "revision", revision] => {
            let target = format!("/api/models/{REPO}/revision/{revision}?blobs=true");
            reply(out, 307, &[("location", target)], b"")
        }
        [OLD, "resolve", ..] => {
            let target = request.path.replacen(OLD, REPO, 1);
            reply(out, 307, &[("location", target)], b"")
        }
        ["api", kind, org, name, "revision", revision] => {
            let commit = commit_of(state, revision);
            let commit = commit.filter(|_| kind == served && format!("{org}/{name}") == REPO);
            if let Some(&Fault::Status(status, code)) = state.faults.lock().unwrap().get(LISTING) {
                return refuse(status, code);
            }
            match commit {
                Some(commit) => reply(out, 200, &[], listing(state, &commit).as_bytes()),
                None => reply(out, 404, &[], b"{}"),
            }
        }
        ["storage", commit, ref file @ ..] => storage(state, out, request, commit, &file.join("/")),
        [org, name, "resolve", revision, ref file @ ..] => {
            if kind != served || format!("{org}/{name}") != REPO {
                return refuse(404, "RepoNotFound");
            }
            let Some(commit) = commit_of(state, revision) else { return refuse(404, "RevisionNotFound") };
            let file = file.join("/");
            if let Some(refused) = refusal(state, out, &file) {
                return refused;
            }
            resolve(state, out, request, &commit, &file, address)
        }
        _ => refuse(404, ""),
    }
}

/// What the fault of a file answers instead of it.
fn refusal(state: &State, out: &TcpStream, file: &str) -> Option<std::io::Result<()>> {
    let mut faults = state.faults.lock().unwrap();
    let fault = *faults.get(file)?;
    let code = |code: &str| if state.terse.load(Ordering::SeqCst) { String::new() } else { code.to_string() };
    match fault {
        Fault::Status(status, name) => Some(reply(out, status, &[("x-error-code", code(name))], b"")),
        Fault::Refusal(status, name, said) => Some(reply(
            out,
            status,
            &[("x-error-code", code(name)), ("x-error-message", said.to_string())],
            b"",
        )),
        Fault::Busy(0, ..) | Fault::HangUp(0) => None,
        Fault::Busy(times, status, name, value) => {
            faults.insert(file.to_string(), Fault::Busy(times - 1, status, name, value));
            Some(reply(out, status, &[(name, value.to_string())], b""))
        }
        Fault::HangUp(times) => {
            faults.insert(file.to_string(), Fault::HangUp(times - 1));
            Some(out.shutdown(std::net::Shutdown::Both))
        }
        _ => None,
    }
}

/// The description of the repository at one commit.
fn listing(state: &State, commit: &str) -> String {
    let files = state.files.lock().unwrap();
    let siblings: Vec<_> = files
        .iter()
        .filter(|((at, _), _)| at == commit)
        .map(|((_, file), bytes)| serde_json::json!({"rfilename": file, "size": bytes.len()}))
        .collect();
    serde_json::json!({"id": REPO, "sha": commit, "siblings": siblings}).to_string()
}

fn commit_of(state: &State, revision: &str) -> Option<String> {
    let revisions = state.revisions.lock().unwrap();
    let revision = revision.replace("%2F", "/");
    revisions.get(&revision).or_else(|| revisions.values().find(|commit| **commit == revision)).cloned()
}

fn bytes_of(state: &State, commit: &str, file: &str) -> Option<Vec<u8>> {
    state.files.lock().unwrap().get(&(commit.to_string(), file.to_string())).cloned()
}

fn resolve(
    state: &State,
    out: &TcpStream,
    request: &Request,
    commit: &str,
    file: &str,
    address: SocketAddr,
) -> std::io::Result<()> {
    let Some(bytes) = bytes_of(state, commit, file) else {
        let terse = state.terse.load(Ordering::SeqCst);
        let code = if terse { String::new() } else { "EntryNotFound".to_string() };
        return reply(out, 404, &[("x-error-code", code), ("x-repo-commit", commit.to_string())], b"");
    };
    let fault = state.faults.lock().unwrap().get(file).copied();
    let mut headers = vec![("x-repo-commit", commit.to_string())];
    let size = if let Some(Fault::Huge(size)) = fault { size } else { bytes.len() as u64 };
    if is_large(state, file) {
        headers.push(("x-linked-etag", format!("\"{}\"", sha256(&bytes))));
        headers.push(("x-linked-size", size.to_string()));
        headers.push(("etag", "\"not-the-file\"".to_string()));
        headers.push(("location", format!("http://localhost:{}/storage/{commit}/{file}", address.port())));
    } else {
        // Git's hash in life; any forty digits here, different for different content.
        headers.push(("etag", format!("\"{}\"", &sha256(&bytes)[..40])));
    }
    if let Some(Fault::Header(name, value)) = fault {
        headers.retain(|(n, _)| *n != name);
        headers.push((name, value.to_string()));
    }
    if is_large(state, file) {
        return reply(out, 302, &headers, b"");
    }
    body(state, out, request, file, &headers, bytes)
}

fn storage(
    state: &State,
    out: &TcpStream,
    request: &Request,
    commit: &str,
    file: &str,
) -> std::io::Result<()> {
    match bytes_of(state, commit, file) {
        Some(bytes) => body(state, out, request, file, &[], bytes),
        None => reply(out, 404, &[], b""),
    }
}

/// The content, or the part of it that a range asks for, with its fault.
fn body(
    state: &State,
    mut out: &TcpStream,
    request: &Request,
    file: &str,
    headers: &[(&str, String)],
    mut bytes: Vec<u8>,
) -> std::io::Result<()> {
    let fault = state.faults.lock().unwrap().get(file).copied();
    let whole = if let Some(Fault::Huge(size)) = fault { size } else { bytes.len() as u64 };
    let mut headers = headers.to_vec();
    let range = request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
    let start: Option<usize> = range.and_then(|r| r.parse().ok());
    let start = start.filter(|_| !matches!(fault, Some(Fault::NoRange)));
    if start.is_some_and(|start| start >= bytes.len()) {
        return reply(out, 416, &headers, b"");
    }
    if let Some(Fault::WrongBytes) = fault {
        *bytes.last_mut().unwrap() ^= 1;
    }
    if let Some(start) = start {
        headers.push(("content-range", format!("bytes {start}-{}/{whole}", whole - 1)));
        bytes.drain(..start);
    }
    let length = whole - start.unwrap_or(0) as u64;
    if matches!(fault, Some(Fault::EmptyHead)) && request.method == "HEAD" {
        headers.push(("content-length", "0".to_string()));
    } else if !matches!(fault, Some(Fault::Endless)) {
        headers.push(("content-length", length.to_string()));
    }
    let status = if start.is_some() { 206 } else { 200 };
    send_headers(out, status, &headers)?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match fault {
        Some(Fault::Cut(after)) => out.write_all(&bytes[..after.min(bytes.len())]),
        Some(Fault::CutOnce(after)) => {
            state.faults.lock().unwrap().remove(file);
            out.write_all(&bytes[..after.min(bytes.len())])
        }
        Some(Fault::Silent) => wait_while_open(state, out, b""),
        Some(Fault::Trickle) => wait_while_open(state, out, b"x"),
        Some(Fault::Endless) => loop {
            out.write_all(&[b' '; 1 << 12])?;
        },
        _ => out.write_all(&bytes),
    }
}

fn wait_while_open(state: &State, mut out: &TcpStream, drop: &[u8]) -> std::io::Result<()> {
    while !state.closed.load(Ordering::SeqCst) {
        out.write_all(drop)?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn send_headers(mut out: &TcpStream, status: u16, headers: &[(&str, String)]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        head.extend([name, ": ", value.as_str(), "\r\n"]);
    }
    out.write_all((head + "\r\n").as_bytes())
}

fn reply(mut out: &TcpStream, status: u16, headers: &[(&str, String)], body: &[u8]) -> std::io::Result<()> {
    let mut headers = headers.to_vec();
    headers.push(("content-length", body.len().to_string()));
    send_headers(out, status, &headers)?;
    out.write_all(body)
}
