//! Servers that answer as workers: `latent-briefing serve`, one or many, asked over HTTP.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lb_io::http::{backoff, configure, retry_after};
use lb_io::secrets;
use lb_session::CancelToken;
use serde_json::Value;
use ureq::Agent;

use crate::{Error, Result};

/// Of a request, retries not counted in.
const LONGEST: Duration = Duration::from_mins(30);
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server that did not answer is left alone, first and at most; a busy one that does not say how long likewise.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(8);
/// Bytes of a reply.
const MOST: u64 = 16 << 20;

/// Servers of one model. What is read on one is asked of that one; what one that went away had is read on another.
///
/// ```no_run
/// use lb_eval::calls::{self, EpisodePlan, Servers};
/// use lb_eval::pipeline::Existing;
/// use lb_model::Worker;
/// use lb_session::CancelToken;
///
/// let servers = Servers::new(&["http://10.0.0.1:8080", "http://10.0.0.2:8080"], None)?;
/// let plan = EpisodePlan { jobs: 8, ..EpisodePlan::default() };
/// let (dir, cancel) = ("rows".as_ref(), CancelToken::new());
/// calls::run_on(&servers, &Worker::embedded()?, &plan, dir, Existing::Resume, &cancel, &|_| {})?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Servers {
    agent: Agent,
    key: Option<String>,
    patience: Duration,
    all: Mutex<Vec<Server>>,
}

#[derive(Debug)]
struct Server {
    url: String,
    /// Items on it.
    busy: usize,
    /// Since it last answered.
    failures: usize,
    /// Not asked before.
    rests_until: Option<Instant>,
}

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server is away or ends: another may do it.
    Away(String),
    /// The server said why not.
    Refused { status: u16, said: String },
}

impl Servers {
    /// Servers by their addresses, `http://HOST:PORT`, with or without a `/v1` behind; `key` is sent to each.
    ///
    /// # Errors
    /// [`Error::Config`] for none, for an address that is none, and for one that is there twice; what
    /// [`configure`] says of certificates and proxies.
    pub fn new(urls: &[impl AsRef<str>], key: Option<String>) -> Result<Self> {
        let mut all: Vec<Server> = Vec::new();
        for url in urls {
            let url = url.as_ref().trim().trim_end_matches('/').trim_end_matches("/v1").to_owned();
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['/', '@', ' ', '?', '#'])) {
                return Err(Error::config("servers", url, "want an address as in http://127.0.0.1:8080"));
            }
            if all.iter().any(|server| server.url == url) {
                return Err(Error::config("servers", url, "is there twice"));
            }
            all.push(Server { url, busy: 0, failures: 0, rests_until: None });
        }
        let Some(first) = all.first() else {
            return Err(Error::config("servers", "none", "want at least one"));
        };
        if let Some(key) = &key {
            secrets::remember(key);
        }
        let builder = Agent::config_builder()
            .user_agent(concat!("latent-briefing/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(LONGEST));
        let agent = configure(builder, &first.url).map_err(lb_model::Error::from)?.build().into();
        Ok(Self { agent, key, patience: Duration::from_mins(2), all: Mutex::new(all) })
    }

    /// How long no server may answer before a run ends. Default: 2 minutes, in which one that was started anew is back.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Does `work` on the server that has the least to do. Where that goes away, all of it is done anew on another; `work`
    /// says so by [`Failure::Away`].
    pub(super) fn on_one<T>(
        &self,
        cancel: &CancelToken,
        work: impl Fn(&str) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let until = Instant::now() + self.patience;
        let mut last = None;
        while !cancel.is_cancelled() {
            let Some(url) = self.take() else {
                // All of them rest. Who has waited for an answer in vain tells what the last one said.
                if Instant::now() > until
                    && let Some((url, reason)) = last
                {
                    return Err(Error::Server { url, reason });
                }
                sleep(FIRST_REST / 4);
                continue;
            };
            let done = work(&url);
            self.give(&url, matches!(done, Err(Failure::Away(_))));
            match done {
                Ok(done) => return Ok(done),
                Err(Failure::Away(reason)) => last = Some((url, reason)),
                Err(Failure::Refused { status, said }) => {
                    return Err(Error::Server { url, reason: format!("answered {status}: {said}") });
                }
            }
        }
        Err(lb_session::Error::Cancelled.into())
    }

    fn take(&self) -> Option<String> {
        let mut all = self.lock();
        let now = Instant::now();
        let awake = all.iter_mut().filter(|server| server.rests_until.is_none_or(|until| until <= now));
        let server = awake.min_by_key(|server| (server.failures, server.busy))?;
        server.busy += 1;
        Some(server.url.clone())
    }

    fn give(&self, url: &str, away: bool) {
        if let Some(server) = self.lock().iter_mut().find(|server| server.url == url) {
            server.busy -= 1;
            server.failures = if away { server.failures + 1 } else { 0 };
            let rest = backoff(FIRST_REST, LONGEST_REST, server.failures);
            server.rests_until = away.then(|| Instant::now() + rest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Server>> {
        self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends one request; waits and sends it again where the server is busy.
    pub(super) fn send(
        &self,
        method: &str,
        url: &str,
        body: &Value,
        cancel: &CancelToken,
    ) -> std::result::Result<Value, Failure> {
        let away =
            |error: &dyn std::fmt::Display| Failure::Away(secrets::masked(&error.to_string()).into_owned());
        for sent in 1.. {
            let mut request = ureq::http::Request::builder().method(method).uri(url);
            request = request.header("content-type", "application/json");
            if let Some(key) = &self.key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            let request = request.body(body.to_string()).map_err(|error| away(&error))?;
            let mut reply = self.agent.run(request).map_err(|error| away(&error))?;
            let (status, wait) = (reply.status().as_u16(), retry_after(reply.headers()));
            let text =
                reply.body_mut().with_config().limit(MOST).read_to_string().map_err(|error| away(&error))?;
            match status {
                200..300 => {
                    return serde_json::from_str(&text).map_err(|error| away(&format!("no JSON: {error}")));
                }
                429 if !cancel.is_cancelled() => {
                    sleep(wait.unwrap_or_else(|| backoff(FIRST_REST, LONGEST_REST, sent)));
                }
                500.. | 429 => return Err(Failure::Away(format!("answered {status}: {}", said(&text)))),
                _ => return Err(Failure::Refused { status, said: said(&text) }),
            }
        }
        unreachable!("the loop has no end of its own")
    }
}

/// The message of a refusal, or the beginning of what came in its place.
fn said(text: &str) -> String {
    let reply: Option<Value> = serde_json::from_str(text).ok();
    let message = reply.as_ref().and_then(|reply| reply.pointer("/error/message")?.as_str());
    lb_io::shown::quoted(&secrets::masked(message.unwrap_or(text)))
}
