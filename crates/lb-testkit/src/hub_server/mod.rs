//! A loopback server that answers like the Hugging Face hub, and breaks on demand.
//!
//! Small files are served at their address. Weights redirect to `localhost`, which stands for a storage host: another
//! name than the hub's, so that a leaked token shows.

mod answer;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lb_model::hub::{Hub, Network, Retries};

/// The repository's name.
pub const REPO: &str = "org/tiny";
/// A name without an organisation, which leads to [`REPO`].
pub const OLD: &str = "tiny-classic";
/// What faults of the list of files are put under.
pub const LISTING: &str = "(list of files)";
/// The commit of `main`.
pub const COMMIT: &str = "00000000000000000000000000000000000000aa";
/// The token of private repositories.
pub const TOKEN: &str = "hf_loopback_secret";
/// How long clients of [`HubServer::hub`] wait.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Two repetitions, pauses of a millisecond.
pub const QUICK: Retries =
    Retries { count: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_secs(2) };

/// What goes wrong with one file.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
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
pub struct Request {
    /// GET or HEAD.
    pub method: String,
    /// The path of its address, with what it asks for behind `?`.
    pub path: String,
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

    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether it went to the storage host.
    pub fn to_storage(&self) -> bool {
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

/// The server; it ends with the value.
pub struct HubServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    /// Serves the files of `folder` as the repository [`REPO`] at `main` and [`COMMIT`].
    pub fn of(folder: &Path) -> Self {
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
                thread::spawn(move || answer::serve(&state, &stream, address));
            }
        });
        let server = Self { address, state, thread: Some(thread) };
        server.publish("main", COMMIT, folder);
        server
    }

    /// Lets `revision` stand for `commit`, with the files of `folder`.
    pub fn publish(&self, revision: &str, commit: &str, folder: &Path) {
        self.state.revisions.lock().unwrap().insert(revision.to_string(), commit.to_string());
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            self.put(commit, &name, fs::read(entry.path()).unwrap());
        }
    }

    /// Adds or replaces a file.
    pub fn put(&self, commit: &str, file: &str, bytes: Vec<u8>) {
        self.state.files.lock().unwrap().insert((commit.to_string(), file.to_string()), bytes);
    }

    /// Removes a file of [`COMMIT`].
    pub fn remove(&self, file: &str) {
        self.state.files.lock().unwrap().remove(&(COMMIT.to_string(), file.to_string()));
    }

    /// Lets something go wrong with a file.
    pub fn fault(&self, file: &str, fault: Fault) {
        self.state.faults.lock().unwrap().insert(file.to_string(), fault);
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// From now on every request needs [`TOKEN`].
    pub fn make_private(&self) {
        self.state.private.store(true, Ordering::SeqCst);
    }

    /// From now on the repository is a data set: `/datasets/org/tiny`.
    pub fn make_dataset(&self) {
        self.state.dataset.store(true, Ordering::SeqCst);
    }

    /// From now on a 404 does not say what is missing.
    pub fn make_terse(&self) {
        self.state.terse.store(true, Ordering::SeqCst);
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.state.log.lock().unwrap())
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// [`REPO`] on this server, with a cache in `folder`.
    pub fn hub(&self, folder: &Path) -> Hub {
        self.named(REPO, folder)
    }

    /// A repository of any name on this server, with a cache in `folder`.
    pub fn named(&self, name: &str, folder: &Path) -> Hub {
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

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:?}", ring::digest::digest(&ring::digest::SHA256, bytes))
        .trim_start_matches("SHA256:")
        .to_string()
}
