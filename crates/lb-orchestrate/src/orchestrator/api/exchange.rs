//! Requests with their retries, pauses, deadlines and cancellation.

use std::marker::PhantomData;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use serde_json::Value;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{HeaderName, HeaderValue};

use super::super::guard::{POLL, TurnGuard};
use super::config::Connection;
use super::dialect::Dialect;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::key::ApiKey;
use super::reply::Job;
use crate::{Completion, Error, Result};

const USER_AGENT: &str = concat!("latent-briefing/", env!("CARGO_PKG_VERSION"));

/// Exchanges requests for completions with one service.
pub(super) struct Exchange<D> {
    agent: Agent,
    config: Config,
    endpoint: Endpoint,
    headers: Vec<(HeaderName, HeaderValue)>,
    key: Option<ApiKey>,
    connection: Connection,
    dialect: PhantomData<fn() -> D>,
}

/// Why there is no completion.
pub(super) enum Stop {
    /// The service failed, for the last of so many requests.
    Failed(Failure, usize),
    /// The turn was called off or is too late.
    Ended(Error),
}

impl<D: Dialect> Exchange<D> {
    /// `headers` carry the key.
    pub(super) fn new(
        endpoint: Endpoint,
        key: Option<ApiKey>,
        headers: Vec<(HeaderName, HeaderValue)>,
        connection: Connection,
    ) -> Result<Self> {
        connection.validate()?;
        let config = config(&endpoint, &connection)?;
        let agent = Agent::new_with_config(config.clone());
        Ok(Self { agent, config, endpoint, headers, key, connection, dialect: PhantomData })
    }

    /// Sends a request until it succeeds, cannot succeed or was repeated often enough. `sent` counts requests.
    pub(super) fn turn(
        &mut self,
        request: &Value,
        guard: &TurnGuard<'_>,
        mut sent: usize,
    ) -> std::result::Result<Completion, Stop> {
        self.check_log().map_err(Stop::Ended)?;
        let body = request.to_string().into_bytes();
        let mut unreported = 0;
        loop {
            guard.check().map_err(Stop::Ended)?;
            sent += 1;
            let failure = match self.once(&body, guard).map_err(Stop::Ended)? {
                Ok(mut completion) => {
                    completion.usage.unreported += unreported;
                    return Ok(completion);
                }
                Err(failure) => failure.without(self.key.as_ref()),
            };
            unreported += usize::from(failure.may_have_cost());
            let Some(pause) = self.connection.retries.pause(&failure, sent) else {
                return Err(Stop::Failed(failure, sent));
            };
            guard.pause(pause).map_err(Stop::Ended)?;
        }
    }

    /// At the level `trace` the HTTP library's protocol crate dumps requests byte by byte, keys included.
    fn check_log(&self) -> Result<()> {
        if self.key.is_some() && log::log_enabled!(target: "ureq_proto::util", log::Level::Trace) {
            let reason = "it would print the key with each request; exclude one target, as RUST_LOG=trace,ureq_proto=debug does";
            return Err(Error::config("log level of ureq_proto", "trace", reason));
        }
        Ok(())
    }

    /// One request on a thread of its own, which a closed connection ends.
    fn once(
        &mut self,
        body: &[u8],
        guard: &TurnGuard<'_>,
    ) -> Result<std::result::Result<Completion, Failure>> {
        let job = Job {
            agent: self.agent.clone(),
            url: self.endpoint.url.clone(),
            headers: self.headers.clone(),
            body: body.to_vec(),
            connection: self.connection,
        };
        let (send, receive) = mpsc::sync_channel(1);
        let spawned = thread::Builder::new().name("lb-api".to_string()).spawn(move || {
            // Nobody listens any more where the turn was called off.
            let _ = send.send(job.run::<D>());
        });
        if let Err(e) = spawned {
            return Ok(Err(Failure::Unreachable { reason: e.to_string() }));
        }
        loop {
            match receive.recv_timeout(POLL) {
                Ok(outcome) => return Ok(outcome),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(Failure::Unreachable { reason: "the request broke down".to_string() }));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = guard.check() {
                        self.hang_up();
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Closes the connection under way; one that is only being made can send nothing any more.
    fn hang_up(&mut self) {
        let next = Agent::new_with_config(self.config.clone());
        std::mem::replace(&mut self.agent, next).shutdown();
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn error(&self, stop: Stop) -> Error {
        match stop {
            Stop::Ended(error) => error,
            Stop::Failed(failure, attempts) => Error::Api {
                service: D::SERVICE,
                endpoint: self.endpoint.origin.clone(),
                attempts,
                failure: Box::new(failure),
            },
        }
    }
}

fn config(endpoint: &Endpoint, connection: &Connection) -> Result<Config> {
    let timeouts = &connection.timeouts;
    let builder = Agent::config_builder()
        .user_agent(USER_AGENT)
        .http_status_as_error(false)
        .https_only(endpoint.is_tls)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A connection that the server closed between two turns costs more than a new one.
        .max_idle_connections(0)
        .timeout_resolve(Some(timeouts.connect))
        .timeout_connect(Some(timeouts.connect))
        .timeout_per_read(Some(timeouts.silence))
        .timeout_per_write(Some(timeouts.silence))
        .timeout_global(Some(timeouts.whole));
    Ok(lb_io::http::configure(builder, &endpoint.url).map_err(lb_model::Error::from)?.build())
}
