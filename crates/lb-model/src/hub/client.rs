//! What the hub is asked: where a file is, which bytes it has, and what a refusal means.

use std::time::Duration;

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body};

use super::env::Token;
use super::failure::{Failure, Place, TokenUse};
use super::names::is_key;
use crate::{Error, Result};

const MAX_RELATIVE_REDIRECTS: usize = 5;
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

/// URLs and the repository API come from `hf_hub`, requests go through its HTTP library with timeouts of their own.
pub(super) struct Client {
    api: Api,
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(
        endpoint: &str,
        token: Option<Token>,
        timeout: Duration,
        cache: &Cache,
    ) -> Result<Self> {
        let endpoint = checked_endpoint(endpoint)?;
        let text = token.as_ref().map(Token::reveal).transpose()?.map(str::to_string);
        let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint.clone()).with_token(text);
        let api = builder.build().map_err(|e| invalid_endpoint(&endpoint, e.to_string()))?;
        let limit = Some(timeout);
        let agent = Agent::config_builder()
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            .https_only(endpoint.starts_with("https://"))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_resolve(limit)
            .timeout_connect(limit)
            .timeout_send_request(limit)
            .timeout_recv_response(limit)
            .timeout_per_read(limit)
            .timeout_per_write(limit)
            .build()
            .into();
        Ok(Self { api, agent, endpoint, token, timeout })
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

    /// Asks for a file's commit, etag and size. Redirects inside the hub are followed (renamed repositories), one to
    /// a storage host is not: the reply that sends there is the one that has the file's own etag.
    pub(super) fn head(&self, revision: &str, pinned: bool, place: &Place) -> Result<Head> {
        let mut url = self.api.repo(place.repo.at(revision)).url(&place.file);
        let mut found = Found::default();
        for _ in 0..=MAX_RELATIVE_REDIRECTS {
            let mut request = self.agent.head(&url).header(header::ACCEPT_ENCODING, "identity");
            if let Some(value) = self.authorization()? {
                request = request.header(header::AUTHORIZATION, value);
            }
            let request = request.config().max_redirects(0).max_redirects_will_error(false).build();
            let reply = request.call().map_err(|e| self.transport(e, place))?;
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
                    url = format!("{}{path}", origin(&self.endpoint));
                }
                Some(_) => return found.head(url, place),
                None => return Err(place.error(Failure::BadReply { header: "location" })),
            }
        }
        Err(place.error(Failure::BadReply { header: "location" }))
    }

    /// The bytes of a file from `start` on. The reply may be the whole file all the same.
    pub(super) fn get(&self, head: &Head, start: u64, place: &Place) -> Result<Response<Body>> {
        let mut request = self.agent.get(&head.url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(value) = self.authorization()? {
            request = request.header(header::AUTHORIZATION, value);
        }
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        let reply = request.call().map_err(|e| self.transport(e, place))?;
        match reply.status().as_u16() {
            200 | 206 | 416 => Ok(reply),
            // The hub has just said that the file is there and may be read.
            status => Err(place.error(Failure::Status { status })),
        }
    }

    /// What a refused request means. `Err` is a failure to find out.
    fn refusal(&self, reply: &Response<Body>, pinned: bool, place: &Place) -> Result<Error> {
        let status = reply.status().as_u16();
        let code = reply.headers().get("x-error-code").and_then(|v| v.to_str().ok());
        let failure = match (status, code) {
            (_, Some("RepoNotFound")) => Failure::NoRepository { token: self.token_use() },
            (404, Some("RevisionNotFound")) => Failure::NoRevision,
            (404, Some("EntryNotFound")) => Failure::NoFile,
            (404, _) if pinned => Failure::NoFile,
            (404, _) => self.what_is_missing(place)?,
            (401 | 403, _) => Failure::Denied { status, token: self.token_use() },
            _ => Failure::Status { status },
        };
        Ok(place.error(failure))
    }

    /// Servers other than the hub itself answer 404 without saying to what.
    fn what_is_missing(&self, place: &Place) -> Result<Failure> {
        if self.knows(&place.revision, place)? {
            return Ok(Failure::NoFile);
        }
        let main = place.revision != "main" && self.knows("main", place)?;
        Ok(if main { Failure::NoRevision } else { Failure::NoRepository { token: self.token_use() } })
    }

    fn knows(&self, revision: &str, place: &Place) -> Result<bool> {
        let limit = Some(self.timeout);
        let request =
            self.api.repo(place.repo.at(revision)).info_request().config().http_status_as_error(false);
        let request = request.timeout_resolve(limit).timeout_connect(limit).timeout_recv_response(limit);
        let request = request.timeout_per_read(limit).timeout_per_write(limit).build();
        let reply = request.call().map_err(|e| self.transport(e, place))?;
        Ok(reply.status().is_success())
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
            other => other.to_string(),
        };
        place.error(Failure::Unreachable { endpoint: self.endpoint.clone(), reason })
    }
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
        let length = || text(headers, "content-length").filter(|_| reply.status().is_success());
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

/// Scheme and host of a checked endpoint.
fn origin(endpoint: &str) -> &str {
    let host = endpoint.find("://").map_or(0, |at| at + 3);
    endpoint[host..].find('/').map_or(endpoint, |at| &endpoint[..host + at])
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
        _ => Err(invalid_endpoint("(not shown)", "expected http:// or https:// and a host".to_string())),
    }
}

fn invalid_endpoint(endpoint: &str, reason: String) -> Error {
    Error::Config { field: "endpoint", value: endpoint.to_string(), reason }
}
