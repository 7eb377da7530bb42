//! How a server behaves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Result};

/// How a server behaves; every bound has a default that a small machine bears.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeConfig {
    /// Where it listens. Default: 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// The file of keys ([`Keys`](crate::Keys)). Without one, only this machine is answered.
    pub keys: Option<PathBuf>,
    /// Where trajectories and briefings are written down: a folder, `s3://BUCKET/FOLDER` and what else [`lb_store`] knows. Without one
    /// nothing outlives the server.
    pub store: Option<String>,
    /// Where several servers that share a store note what was used when: `redis://HOST:PORT/NUMBER`. Without one each keeps its own times.
    pub index: Option<String>,
    /// Further names of the model, for clients that know it by another.
    pub aliases: Vec<String>,
    /// Answers under way at a time, at least 1. Default: 16.
    pub parallel: usize,
    /// Requests that wait, at least 1; more are refused with 429. Default: 256.
    pub queue: usize,
    /// Tokens of an answer where a request says nothing. Default: 512.
    pub max_tokens: usize,
    /// Bytes of a request's body. Default: 32 MiB.
    pub max_body: usize,
    /// How long a request may take, waiting counted in. Default: 10 minutes.
    pub request_time: Duration,
    /// How long a header, and a pause within a body, may take. Default: 10 s.
    pub body_time: Duration,
    /// How long answers under way have when the server is told to end. Default: 30 s.
    pub drain_time: Duration,
    /// Connections at a time. Default: 1,024.
    pub connections: usize,
    /// Bytes of the caches of trajectories in memory; what was not used for longest is written to a file beyond it. Default: 4 GiB.
    pub memory: usize,
    /// Bytes of the prompts that are kept for those that begin alike. Default: 1 GiB.
    pub prefixes: usize,
    /// Trajectories that a tenant may have; with a store, that a server remembers of it. Default: 10,000.
    pub trajectories: usize,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            keys: None,
            store: None,
            index: None,
            aliases: Vec::new(),
            parallel: 16,
            queue: 256,
            max_tokens: 512,
            max_body: 32 << 20,
            request_time: Duration::from_mins(10),
            body_time: Duration::from_secs(10),
            drain_time: Duration::from_secs(30),
            connections: 1024,
            memory: 4 << 30,
            prefixes: 1 << 30,
            trajectories: 10_000,
        }
    }
}

impl ServeConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        let at_least_one = [
            ("parallel", self.parallel),
            ("queue", self.queue),
            ("max_tokens", self.max_tokens),
            ("max_body", self.max_body),
            ("connections", self.connections),
            ("trajectories", self.trajectories),
        ];
        for (field, value) in at_least_one {
            if value == 0 {
                return Err(Error::Config { field, value: value.to_string(), reason: "want at least 1" });
            }
        }
        if self.keys.is_none() && !self.listen.ip().is_loopback() {
            return Err(Error::Open(self.listen));
        }
        Ok(())
    }
}
