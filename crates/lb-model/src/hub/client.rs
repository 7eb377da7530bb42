//! What the hub is asked: where a file is, which bytes it has, and what a refusal means.

use std::time::Duration;

use lb_io::http::{certificate_advice, configure, rate_limit_reset, retry_after};
use serde::Deserialize;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::env::Token;
use super::failure::{Failure, Place, TokenUse};
use super::names::{escaped, is_key};
use super::patience::{Patience, Retries};
use crate::{Error, Result};

const MAX_REDIRECTS: usize = 5;
/// Hosts that answer as the hub does, besides that of the endpoint.
const HUB_HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];
/// The list of a repository's files; the largest have some ten thousand.
const MAX_LISTING: u64 = 32 << 20;
const USER_AGENT: &str = concat!("latent-briefing/", env!("CARGO_PKG_VERSION"));

/// A file as the hub describes it.
#[derive(Debug)]
pub(super) struct Head {
    /// The commit that the asked revision stands for.
    pub(super) commit: String,
    /// sha256 of a large file, git's hash of a small one: the name of the blob in the cache.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
    url: String,
}

impl Head {
    /// The sha256 of the content, where the hub announces one.
    pub(super) fn sha256(&self) -> Option<&str> {
        let is_sha = self.etag.len() == 64 && self.etag.chars().all(|c| c.is_ascii_hexdigit());
        is_sha.then_some(self.etag.as_str())
    }
}

/// A file as the description of its repository has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "rfilename")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) size: Option<u64>,
}

/// What a repository holds at one commit.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "sha")]
    pub(super) commit: String,
    #[serde(rename = "siblings")]
    pub(super) files: Vec<Listed>,
}

/// Requests to the hub, with timeouts, repetitions and the machine's certificates and proxy.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    timeout: Duration,
    patience: Patience,
}

impl Client {
    pub(super) fn new(
        endpoint: &str,
        token: Option<Token>,
        timeout: Duration,
        patience: Patience,
    ) -> Result<Self> {
        let endpoint = checked_endpoint(endpoint)?;
        token.as_ref().map(Token::reveal).transpose()?;
        let limit = Some(timeout);
        let builder = Agent::config_builder()
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            .https_only(endpoint.starts_with("https://"))
            // Redirects are followed here, where the token's scheme, host and port are known.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(limit)
            .timeout_connect(limit)
            .timeout_send_request(limit)
            .timeout_recv_response(limit)
            .timeout_per_read(limit)
            .timeout_per_write(limit);
        let agent = configure(builder, &endpoint)?.build().into();
        Ok(Self { agent, endpoint, token, timeout, patience })
    }

    pub(super) fn set_retries(&mut self, retries: Retries) {
        self.patience.retries = retries;
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Sends a request until it is answered, refused for good, or was repeated often enough. The reply may be a refusal.
    fn send(
        &self,
        place: &Place,
        request: impl Fn() -> std::result::Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>> {
        let mut sent = 0;
        loop {
            self.patience.check()?;
            sent += 1;
            match request() {
                Ok(reply) if is_busy(reply.status().as_u16()) => {
                    let status = reply.status().as_u16();
                    let spent = || rate_limit_reset(reply.headers()).filter(|_| status == 429);
                    let asked = retry_after(reply.headers()).or_else(spent);
                    let reason = format!("the server answered {status}");
                    if !self.patience.wait(&place.file, &reason, asked, sent)? {
                        return Err(place.error(Failure::Status {
                            status,
                            requests: sent,
                            retry_after: asked,
                        }));
                    }
                }
                Err(error) if is_reset(&error) => {
                    if !self.patience.wait(&place.file, "the connection was reset", None, sent)? {
                        return Err(self.transport(error, place));
                    }
                }
                outcome => return outcome.map_err(|error| self.transport(error, place)),
            }
        }
    }

    /// Asks for the front page; any answer will do.
    pub(super) fn ping(&self, place: &Place) -> Result<()> {
        self.agent.head(&self.endpoint).call().map(drop).map_err(|error| self.transport(error, place))
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn token_use(&self) -> TokenUse {
        if self.token.is_some() { TokenUse::Sent } else { TokenUse::None }
    }

    /// At the level `trace` the HTTP library's protocol crate dumps requests byte by byte, the token included.
    fn authorization(&self) -> Result<Option<String>> {
        if self.token.is_some() && log::log_enabled!(target: "ureq_proto::util", log::Level::Trace) {
            let reason = "it would print the token with each request; exclude one target, as \
                          RUST_LOG=trace,ureq_proto=debug does";
            return Err(Error::Config {
                field: "log level of ureq_proto",
                value: "trace".to_string(),
                reason: reason.to_string(),
            });
        }
        let text = self.token.as_ref().map(Token::reveal).transpose()?;
        Ok(text.map(|text| format!("Bearer {text}")))
    }

    /// Asks for a file's commit, etag and size. Redirects between hosts of the hub are followed (renamed repositories,
    /// mirrors that hand over), one to a storage host is not: the reply that sends there is the one that has the file's own etag.
    pub(super) fn head(&self, revision: &str, pinned: bool, place: &Place) -> Result<Head> {
        let mut url =
            format!("{}/{}/resolve/{}/{}", self.endpoint, place.repo, escaped(revision), place.file);
        let mut found = Found::default();
        let authorization = self.authorization()?;
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.send(place, || {
                let mut request = self.agent.head(&url).header(header::ACCEPT_ENCODING, "identity");
                if let Some(value) = self.for_endpoint(authorization.as_ref(), &url) {
                    request = request.header(header::AUTHORIZATION, value);
                }
                request.call()
            })?;
            let status = reply.status();
            found.read(&reply);
            if !status.is_redirection() {
                if status.is_success() {
                    return found.head(url, place);
                }
                return Err(self.refusal(&reply, pinned, place)?);
            }
            let target = reply.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
            match target {
                Some(path) if path.starts_with('/') && !path.starts_with("//") => {
                    url = format!("{}{path}", origin(&url));
                }
                Some(other) if self.is_hub(other) => url = other.to_string(),
                Some(_) => return found.head(url, place),
                None => return Err(place.error(Failure::BadReply { header: "location" })),
            }
        }
        Err(place.error(Failure::BadReply { header: "location" }))
    }

    /// Whether an address is on the endpoint's host, or on the hub's own over TLS.
    fn is_hub(&self, url: &str) -> bool {
        let host =
            |url: &str| url.parse::<Uri>().ok()?.authority().map(|at| at.as_str().to_ascii_lowercase());
        let Some(target) = host(url) else { return false };
        let is_tls = url.starts_with("https://");
        let same = host(&self.endpoint).as_deref() == Some(&target);
        (same && (is_tls || self.endpoint.starts_with("http://")))
            || (is_tls && HUB_HOSTS.contains(&target.as_str()))
    }

    /// The bytes of a file from `start` on. The reply may be the whole file all the same.
    pub(super) fn get(&self, head: &Head, start: u64, place: &Place) -> Result<Response<Body>> {
        let authorization = self.authorization()?;
        let reply = self.send(place, || {
            self.follow(&head.url, authorization.as_ref(), |request| {
                let request = request.header(header::ACCEPT_ENCODING, "identity");
                if start > 0 { request.header(header::RANGE, format!("bytes={start}-")) } else { request }
            })
        })?;
        match reply.status().as_u16() {
            200 | 206 | 416 => Ok(reply),
            // The hub has just said that the file is there and may be read.
            status => Err(place.error(Failure::status(status))),
        }
    }

    /// The files of a revision.
    pub(super) fn listing(&self, revision: &str, place: &Place) -> Result<Listing> {
        let mut reply = self.describe(revision, place)?;
        if !reply.status().is_success() {
            return Err(self.refusal(&reply, false, place)?);
        }
        let body = reply.body_mut().with_config().limit(MAX_LISTING).read_to_vec();
        let body = body.map_err(|error| self.transport(error, place))?;
        let bad = |header| place.error(Failure::BadReply { header });
        let listing: Listing = serde_json::from_slice(&body).map_err(|_| bad("list of files"))?;
        if is_key(&listing.commit) { Ok(listing) } else { Err(bad("sha")) }
    }

    fn describe(&self, revision: &str, place: &Place) -> Result<Response<Body>> {
        let url = format!("{}/api/{}?blobs=true", self.endpoint, place.repo.api_url(revision));
        let authorization = self.authorization()?;
        self.send(place, || self.follow(&url, authorization.as_ref(), |request| request))
    }

    /// The token goes to the endpoint's scheme, host and port, and nowhere else.
    fn for_endpoint<'a>(&self, authorization: Option<&'a String>, url: &str) -> Option<&'a String> {
        authorization.filter(|_| origin(url) == origin(&self.endpoint))
    }

    /// A GET and its redirects; `with` adds headers to each request.
    fn follow(
        &self,
        url: &str,
        authorization: Option<&String>,
        with: impl Fn(RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody>,
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = with(self.agent.get(&url));
            if let Some(value) = self.for_endpoint(authorization, &url) {
                request = request.header(header::AUTHORIZATION, value);
            }
            let reply = request.call()?;
            if !matches!(reply.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let Some(target) = text(reply.headers(), "location") else { return Ok(reply) };
            url = resolved(&url, target);
        }
        Err(ureq::Error::TooManyRedirects)
    }

    /// What a refused request means. `Err` is a failure to find out.
    fn refusal(&self, reply: &Response<Body>, pinned: bool, place: &Place) -> Result<Error> {
        let status = reply.status().as_u16();
        let code = text(reply.headers(), "x-error-code");
        let said = text(reply.headers(), "x-error-message").map(tidy);
        // The hub shows nothing at all to a token that it does not know, public models included.
        let unknown_token =
            status == 401 && said.as_ref().is_some_and(|said| said.contains("nvalid credentials"));
        let code = code.filter(|_| !unknown_token);
        let failure = match (status, code) {
            (_, Some("RepoNotFound")) => Failure::NoRepository { token: self.token_use() },
            (404, Some("RevisionNotFound")) => Failure::NoRevision,
            (404, Some("EntryNotFound")) => Failure::NoFile,
            (404, _) if pinned => Failure::NoFile,
            (404, _) => self.what_is_missing(place)?,
            (401 | 403, code) => Failure::Denied {
                status,
                gated: code == Some("GatedRepo"),
                page: format!("{}/{}", self.endpoint, place.repo),
                token: self.token_use(),
                said,
            },
            _ => Failure::status(status),
        };
        Ok(place.error(failure))
    }

    /// Servers other than the hub itself answer 404 without saying to what.
    fn what_is_missing(&self, place: &Place) -> Result<Failure> {
        let knows = |revision: &str| Ok::<_, Error>(self.describe(revision, place)?.status().is_success());
        if knows(&place.revision)? {
            return Ok(Failure::NoFile);
        }
        let main = place.revision != "main" && knows("main")?;
        Ok(if main { Failure::NoRevision } else { Failure::NoRepository { token: self.token_use() } })
    }

    /// A request that got no reply. The text of URLs stays out: those of storage hosts are signed.
    pub(super) fn transport(&self, error: ureq::Error, place: &Place) -> Error {
        let reason = match error {
            ureq::Error::Timeout(_) => return place.error(Failure::TimedOut { after: self.timeout }),
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => {
                return place.error(Failure::TimedOut { after: self.timeout });
            }
            ureq::Error::BadUri(_) => "not a usable address".to_string(),
            ureq::Error::RequireHttpsOnly(_) => "it redirects to an address without TLS".to_string(),
            other => {
                let reason = other.to_string();
                let advice = certificate_advice(&reason);
                reason + advice
            }
        };
        place.error(Failure::Unreachable { endpoint: self.endpoint.clone(), reason })
    }
}

/// Statuses that may be other ones a moment later.
fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=599)
}

fn is_reset(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ureq::Error::Io(e) => {
            matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        _ => false,
    }
}

/// One line of a server's text, of bounded length.
fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// Headers of a reply and of the redirects before it.
#[derive(Default)]
struct Found {
    commit: Option<String>,
    etag: Option<String>,
    size: Option<u64>,
}

impl Found {
    fn read(&mut self, reply: &Response<Body>) {
        let headers = reply.headers();
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
        let etag = etag.map(|e| e.trim_start_matches("W/").trim_matches('"').to_string());
        // Some mirrors answer without a body to speak of, and say so.
        let length =
            || text(headers, "content-length").filter(|length| reply.status().is_success() && *length != "0");
        let size = text(headers, "x-linked-size").or_else(length).and_then(|size| size.parse().ok());
        self.commit = text(headers, "x-repo-commit").map(str::to_string).or(self.commit.take());
        self.etag = etag.or(self.etag.take());
        self.size = size.or(self.size);
    }

    fn head(self, url: String, place: &Place) -> Result<Head> {
        let bad = |header| place.error(Failure::BadReply { header });
        let commit = self.commit.filter(|c| is_key(c)).ok_or_else(|| bad("x-repo-commit"))?;
        let etag = self.etag.filter(|e| is_key(e)).ok_or_else(|| bad("etag"))?;
        Ok(Head { commit, etag, size: self.size, url })
    }
}

pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme and host of an address.
fn origin(endpoint: &str) -> &str {
    let host = endpoint.find("://").map_or(0, |at| at + 3);
    endpoint[host..].find('/').map_or(endpoint, |at| &endpoint[..host + at])
}

/// What a reply's `location` stands for, seen from the address that was asked.
fn resolved(url: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    if location.starts_with("//") {
        let scheme = url.split("//").next().unwrap_or_default();
        return format!("{scheme}{location}");
    }
    if location.starts_with('/') {
        return format!("{}{location}", origin(url));
    }
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let folder = path.rfind('/').filter(|at| *at >= origin(url).len());
    format!("{}/{location}", folder.map_or(origin(url), |at| &path[..at]))
}

fn checked_endpoint(endpoint: &str) -> Result<String> {
    let trimmed = endpoint.trim_end_matches('/');
    let host = trimmed.strip_prefix("https://").or_else(|| trimmed.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_graphic() && !"@?#\\".contains(c);
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && host.chars().all(plain) => {
            Ok(trimmed.to_string())
        }
        // An address may carry a password before `@`, so it is not repeated.
        _ => Err(Error::Config {
            field: "endpoint",
            value: "(not shown)".to_string(),
            reason: "expected http:// or https:// and a host".to_string(),
        }),
    }
}
