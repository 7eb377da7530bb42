//! A loopback server that plays replies one after the other, and breaks them on demand.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How a reply is sent.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// With its length.
    Whole,
    /// With its length, ending after so many bytes.
    Cut(usize),
    /// Without a length; the end of the connection is its end.
    ToTheEnd,
    /// In chunks; without the last one if cut after so many bytes.
    Chunked(Option<usize>),
    /// Byte by byte, with pauses.
    Drip(Duration),
    /// Headers, then nothing.
    Silent,
    /// Not even headers.
    Mute,
    /// A body that does not end.
    Endless,
}

/// A reply to one request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its HTTP status.
    pub status: u16,
    /// Its headers, besides those of its length.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// How it is sent.
    pub how: How,
}

impl Reply {
    /// JSON, sent whole.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", "application/json".to_string())];
        Self { status, headers, body: body.into(), how: How::Whole }
    }

    /// Server-sent events.
    pub fn events(body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", "text/event-stream; charset=utf-8".to_string())];
        Self { status: 200, headers, body: body.into(), how: How::Chunked(None) }
    }

    /// The same reply sent in another way.
    #[must_use]
    pub fn how(mut self, how: How) -> Self {
        self.how = how;
        self
    }

    /// The same reply with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// The path of its address.
    pub path: String,
    /// Its headers by name in lower case.
    pub headers: HashMap<String, String>,
    /// Its body, JSON.
    pub body: Value,
    /// When it was read.
    pub at: Instant,
}

#[derive(Default)]
struct State {
    replies: Mutex<VecDeque<Reply>>,
    log: Mutex<Vec<Request>>,
    active: AtomicUsize,
    peak: AtomicUsize,
    hang_ups: AtomicUsize,
    closed: AtomicBool,
}

/// The server; it ends with the value.
pub struct ApiServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts one that has these replies to give.
    pub fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        *state.replies.lock().unwrap() = replies.into_iter().collect();
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&state, &stream));
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same server under another name.
    pub fn other_host(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// Replies that nobody asked for.
    pub fn left(&self) -> usize {
        self.state.replies.lock().unwrap().len()
    }

    /// Most requests that were under way together.
    pub fn peak(&self) -> usize {
        self.state.peak.load(Ordering::SeqCst)
    }

    /// Waits until a client has closed a connection in the middle of its reply.
    pub fn was_hung_up_on(&self, within: Duration) -> bool {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if self.state.hang_ups.load(Ordering::SeqCst) > 0 {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// An address where nothing listens.
pub fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn serve(state: &State, stream: &TcpStream) {
    let Some(request) = read(stream) else { return };
    state.log.lock().unwrap().push(request);
    let active = state.active.fetch_add(1, Ordering::SeqCst) + 1;
    state.peak.fetch_max(active, Ordering::SeqCst);
    let reply = state.replies.lock().unwrap().pop_front();
    let reply = reply.unwrap_or_else(|| Reply::json(500, r#"{"error":{"message":"no reply is left"}}"#));
    if send(state, stream, &reply).is_err() {
        state.hang_ups.fetch_add(1, Ordering::SeqCst);
    }
    state.active.fetch_sub(1, Ordering::SeqCst);
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_string();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body: serde_json::from_slice(&body).ok()?, at: Instant::now() })
}

fn send(state: &State, mut out: &TcpStream, reply: &Reply) -> io::Result<()> {
    if matches!(reply.how, How::Mute) {
        return wait_for_end(state, out);
    }
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.extend([*name, ": ", value, "\r\n"]);
    }
    match reply.how {
        How::Chunked(_) => head.push_str("transfer-encoding: chunked\r\n"),
        How::ToTheEnd | How::Endless => {}
        _ => head.extend(["content-length: ", &reply.body.len().to_string(), "\r\n"]),
    }
    out.write_all((head + "\r\n").as_bytes())?;
    match reply.how {
        How::Whole | How::ToTheEnd => out.write_all(&reply.body),
        How::Cut(after) => out.write_all(&reply.body[..after.min(reply.body.len())]),
        How::Chunked(cut) => chunks(out, &reply.body, cut),
        How::Drip(pause) => reply.body.iter().try_for_each(|byte| {
            thread::sleep(pause);
            out.write_all(&[*byte])
        }),
        How::Silent | How::Mute => wait_for_end(state, out),
        How::Endless => loop {
            out.write_all(&[b' '; 1 << 12])?;
        },
    }
}

/// Small chunks, so that lines and characters are broken anywhere.
fn chunks(mut out: &TcpStream, body: &[u8], cut: Option<usize>) -> io::Result<()> {
    for chunk in body[..cut.unwrap_or(body.len()).min(body.len())].chunks(7) {
        out.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
        out.write_all(chunk)?;
        out.write_all(b"\r\n")?;
    }
    if cut.is_none() { out.write_all(b"0\r\n\r\n") } else { Ok(()) }
}

/// Until the client hangs up, which is an error, or the test is over.
fn wait_for_end(state: &State, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !state.closed.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 16]) {
            Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Err(e) if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(e);
            }
            _ => {}
        }
    }
    Ok(())
}
