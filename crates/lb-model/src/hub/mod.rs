//! Checkpoints by name from the Hugging Face hub, through the cache that the Python library uses.
//!
//! ```no_run
//! use lb_model::hub::{Hub, Network};
//!
//! let hub = Hub::new("Qwen/Qwen3-4B")?
//!     .revision("main")
//!     .progress(|p| eprintln!("{}: {} of {:?} bytes", p.file, p.done, p.size));
//! let worker = hub.checkpoint()?.load(&lb_model::device::auto()?, None)?;
//!
//! let gguf = Hub::new("Qwen/Qwen3-4B-GGUF")?.network(Network::Offline).file("Qwen3-4B-Q4_K_M.gguf")?;
//! # Ok::<(), lb_model::Error>(())
//! ```
//!
//! [`Hub::dataset`] fetches single files of data sets in the same way.
//!
//! # Environment
//! As in Python: `HF_ENDPOINT`, `HF_TOKEN` (or the file of `HF_TOKEN_PATH`, or `token` in `HF_HOME`;
//! `HF_HUB_DISABLE_IMPLICIT_TOKEN` ignores them), `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`. A setter beats its
//! variable.
//!
//! # Guarantees
//! All files of a checkpoint come from one commit. A file appears under its name only when it has the announced size
//! and, where the hub announces one (all weights), the announced sha256. Bytes of a broken download stay in the cache
//! as `blobs/*.incomplete`, which nothing loads; the next call goes on from there (files without a sha256, which are
//! small, start over). The server may be silent for [`Hub::timeout`] at most. The token goes to the endpoint
//! alone, never to the storage host that it redirects to.
//!
//! The layout of the cache, the addresses and the repository API are those of the `hf-hub` crate. Its downloads are
//! not used: they have no timeouts, check no sha256 and append to a partial file whatever the server sends.

mod client;
mod env;
mod failure;
mod fetch;
mod layout;
mod names;
mod transfer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use failure::{Failure, TokenUse};
pub(crate) use names::parse;

use self::env::Token;
use self::fetch::Fetch;
use self::names::Repository;
use crate::{Checkpoint, Result};

const TIMEOUT: Duration = Duration::from_secs(30);

/// When the hub is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// For what the cache does not hold. A branch stays at the commit of its last download. The default.
    #[default]
    CacheFirst,
    /// Also for the commit that the revision stands for now.
    Refresh,
    /// Never. The default with `HF_HUB_OFFLINE=1`.
    Offline,
}

/// How far one file is. Each file is reported at its start and while it grows; a cached one is not.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Progress<'p> {
    /// The path in the repository.
    pub file: &'p str,
    /// Bytes on disk, those of an earlier attempt included.
    pub done: u64,
    /// Size in bytes, where the server says it.
    pub size: Option<u64>,
}

type OnProgress = Arc<dyn Fn(Progress<'_>) + Send + Sync>;

/// A repository of the hub and how to reach it.
#[derive(Clone)]
pub struct Hub {
    repo: Repository,
    revision: String,
    token: Option<Token>,
    cache_dir: Option<PathBuf>,
    endpoint: String,
    network: Network,
    timeout: Duration,
    progress: OnProgress,
}

impl Hub {
    /// The repository `org/name`, or `org/name@revision`, with the settings of the environment.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when `name` has another shape.
    pub fn new(name: &str) -> Result<Self> {
        Self::of(name, Repository::model)
    }

    /// The data set `org/name`, or `org/name@revision`: for [`Hub::file`] only.
    ///
    /// # Errors
    /// As [`Hub::new`].
    pub fn dataset(name: &str) -> Result<Self> {
        Self::of(name, Repository::dataset)
    }

    fn of(name: &str, kind: fn(&str) -> Repository) -> Result<Self> {
        let (repo, revision) = parse(name)?;
        Ok(Self {
            repo: kind(repo),
            revision: revision.unwrap_or("main").to_string(),
            token: env::token(),
            cache_dir: None,
            endpoint: env::endpoint(),
            network: env::network(),
            timeout: TIMEOUT,
            progress: Arc::new(|_| {}),
        })
    }

    /// A branch, a tag or a commit; `main` if not set.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// The access token for gated and private repositories.
    #[must_use]
    pub fn token(mut self, token: impl AsRef<str>) -> Self {
        self.token = Some(Token::new(token.as_ref()));
        self
    }

    /// The folder that holds `models--org--name` and `datasets--org--name`; `~/.cache/huggingface/hub` if neither set nor in the environment.
    #[must_use]
    pub fn cache_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(folder.into());
        self
    }

    /// The hub's address, for a mirror.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = url.into();
        self
    }

    /// When the hub is asked.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// The longest silence of the server, 30 s if not set. Less than 64 KiB in this time counts as silence.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Called at the start of each download and after each piece of it, on the calling thread.
    #[must_use]
    pub fn progress(mut self, report: impl Fn(Progress<'_>) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(report);
        self
    }

    /// Fetches what the cache lacks of a checkpoint in safetensors.
    ///
    /// That is `config.json`, `tokenizer.json`, `model.safetensors` or `model.safetensors.index.json` with its
    /// shards, and where they exist `generation_config.json`, `tokenizer_config.json` and `chat_template.jinja`.
    /// With everything else in the cache, an unreachable hub is taken to lack those three.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::Error::Hub) with the reason as a [`Failure`];
    /// [`Error::Config`](crate::Error::Config) for a setting, or for a data set;
    /// [`Error::Io`](crate::Error::Io) when the cache cannot be written for another reason than its size;
    /// [`Error::Json`](crate::Error::Json) and [`Error::Corrupt`](crate::Error::Corrupt) for a damaged index.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        Ok(Checkpoint::named(Fetch::new(self)?.checkpoint()?, self.repo.name().to_string()))
    }

    /// Fetches one file, for instance a GGUF, unless the cache holds it. Returns its path in the cache.
    ///
    /// # Errors
    /// As [`Hub::checkpoint`]; [`Error::Config`](crate::Error::Config) also for a pickled format such as `.bin`.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        Fetch::new(self)?.file(name)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("repo", &format_args!("{}", self.repo))
            .field("revision", &self.revision)
            .field("token", &self.token)
            .field("cache_dir", &self.cache_dir)
            .field("network", &self.network)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
