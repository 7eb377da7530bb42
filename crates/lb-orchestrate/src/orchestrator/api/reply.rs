//! One request, from its first byte to the last of its reply.

use std::io::{self, BufReader, Read};

use lb_io::http::{certificate_advice, retry_after};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use ureq::{Agent, Body, Timeout};

use super::config::Connection;
use super::dialect::{self, Dialect, Progress, Stream};
use super::failure::{Failure, Phase};
use super::refusal;
use super::sse::{Events, Next};
use crate::Completion;

/// Bytes of a refusal that are read.
const REFUSAL_BYTES: u64 = 64 << 10;

/// Everything that one request needs.
pub(super) struct Job {
    pub(super) agent: Agent,
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
    pub(super) connection: Connection,
}

impl Job {
    /// Sends the request and reads the reply.
    pub(super) fn run<D: Dialect>(self) -> Result<Completion, Failure> {
        let request = self.agent.post(&self.url).header(header::CONTENT_TYPE, "application/json");
        // Compressed streams arrive late.
        let mut request = request.header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let reply = request.send(&self.body[..]).map_err(|e| failure(e, &self.connection, 0))?;
        read::<D>(reply, &self.connection)
    }
}

fn read<D: Dialect>(mut reply: Response<Body>, connection: &Connection) -> Result<Completion, Failure> {
    let status = reply.status().as_u16();
    match status {
        200..300 => {}
        300..400 => {
            let target = text(reply.headers(), "location").unwrap_or("nowhere").to_string();
            return Err(Failure::Redirected { status, target });
        }
        _ => {
            let retry_after = retry_after(reply.headers());
            let mut body = Vec::new();
            // What came of a reason is better than none.
            let _ = reply.body_mut().as_reader().take(REFUSAL_BYTES).read_to_end(&mut body);
            return Err(refusal::of_status(status, &body, retry_after, D::KEY_CHECK));
        }
    }
    let kind = text(reply.headers(), "content-type").unwrap_or_default().to_ascii_lowercase();
    let reader = reply.body_mut().as_reader();
    // What the server sends counts, not what it was asked for: some do not stream.
    if kind.starts_with("text/event-stream") {
        stream::<D>(reader, connection)
    } else {
        whole::<D>(reader, connection)
    }
}

fn whole<D: Dialect>(reader: impl Read, connection: &Connection) -> Result<Completion, Failure> {
    let limit = connection.max_reply_bytes;
    let mut body = Vec::new();
    let read = reader.take(limit.saturating_add(1)).read_to_end(&mut body);
    let got = body.len() as u64;
    read.map_err(|e| failure(e.into(), connection, got))?;
    if got > limit {
        return Err(Failure::TooLarge { limit });
    }
    let reply = dialect::json(&body)?;
    match refusal::in_reply(&reply, D::KEY_CHECK) {
        Some(failure) => Err(failure),
        None => D::whole(&reply),
    }
}

fn stream<D: Dialect>(reader: impl Read, connection: &Connection) -> Result<Completion, Failure> {
    let limit = connection.max_reply_bytes;
    let mut events = Events::new(BufReader::new(reader), limit);
    let mut stream = D::Stream::default();
    loop {
        match events.next() {
            Ok(Next::Data(data)) => {
                if stream.event(&data)? == Progress::Done {
                    break;
                }
            }
            Ok(Next::End) => break,
            Ok(Next::TooLarge) => return Err(Failure::TooLarge { limit }),
            Err(e) => return Err(failure(e.into(), connection, events.bytes())),
        }
    }
    stream.finish()?.ok_or(Failure::Cut { bytes: events.bytes() })
}

/// A request without a whole reply; `got` bytes of its body came.
fn failure(error: ureq::Error, connection: &Connection, got: u64) -> Failure {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, TimedOut, UnexpectedEof,
    };
    let timeouts = &connection.timeouts;
    let timed_out = |phase, limit| Failure::TimedOut { phase, limit };
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            timed_out(Phase::Connecting, timeouts.connect)
        }
        ureq::Error::Timeout(Timeout::PerRead | Timeout::PerWrite) => {
            timed_out(Phase::Silence, timeouts.silence)
        }
        ureq::Error::Timeout(_) => timed_out(Phase::Whole, timeouts.whole),
        ureq::Error::Io(e) => match e.kind() {
            UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => Failure::Cut { bytes: got },
            TimedOut => timed_out(Phase::Silence, timeouts.silence),
            InvalidData => insecure(&e),
            _ => Failure::Unreachable { reason: e.to_string() },
        },
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) | ureq::Error::TlsRequired => {
            insecure(&error)
        }
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
            Failure::Malformed { reason: error.to_string() }
        }
        other => Failure::Unreachable { reason: other.to_string() },
    }
}

fn insecure(error: &impl ToString) -> Failure {
    let reason = error.to_string();
    let advice = certificate_advice(&reason);
    Failure::Insecure { reason: reason + advice }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
