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
//! let gguf = Hub::new("Qwen/Qwen3-4B-GGUF:Q4_K_M")?.network(Network::Offline).checkpoint()?;
//! # Ok::<(), lb_model::Error>(())
//! ```
//!
//! [`Hub::dataset`] fetches single files of data sets in the same way.
//!
//! # Environment
//! As in Python: `HF_ENDPOINT`, `HF_TOKEN` (or the file of `HF_TOKEN_PATH`, or `token` in `HF_HOME`;
//! `HF_HUB_DISABLE_IMPLICIT_TOKEN` ignores them), `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_HUB_OFFLINE` (or
//! `TRANSFORMERS_OFFLINE`). In paths `~` and variables are expanded; one that cannot be is an error. Certificates and proxies are
//! those of [`net::configure`](lb_io::http::configure). A setter beats its variable.
//!
//! # Guarantees
//! All files of a checkpoint come from one commit. A file appears under its name only when it has the announced size
//! and, where the hub announces one (all weights), the announced sha256. Bytes of a broken download stay in the cache
//! as `blobs/*.incomplete`, which nothing loads; the next call goes on from there (files without a sha256, which are
//! small, start over). The server may be silent for [`Hub::timeout`] at most; a busy or failing one is asked again
//! as [`Retries`] says. The token goes to the endpoint
//! alone, never to the storage host that it redirects to.
//!
//! The layout of the cache is that of the `hf-hub` crate. Its downloads are not used: they have no timeouts, check no sha256 and
//! append to a partial file whatever the server sends.

mod choose;
mod client;
mod env;
mod expand;
mod failure;
mod fetch;
mod gguf;
mod layout;
mod names;
mod patience;
mod reach;
mod transfer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use failure::{Failure, TokenUse};
pub use patience::{Retries, Retry};
pub use reach::Reach;

use self::env::Token;
use self::fetch::{Fetch, Found};
use self::names::{Choice, Repository, may_be_repository, parse};
use self::patience::Patience;
use crate::{Checkpoint, Error, Result};

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
    choice: Option<Choice>,
    token: Option<Token>,
    cache_dir: Option<PathBuf>,
    endpoint: String,
    network: Network,
    timeout: Duration,
    progress: OnProgress,
    patience: Patience,
}

/// What the hub has under a path that leads nowhere here; `None` where it is not to be asked, since it is plainly a file.
pub(crate) fn open(path: &Path) -> Option<Result<Checkpoint>> {
    let name = path.to_str().filter(|_| may_be_repository(path))?;
    Some(Hub::new(name).and_then(|hub| hub.checkpoint()))
}

impl Hub {
    /// The repository `org/name` (or `name`, for the oldest models), with the settings of the environment. `@revision` behind it
    /// is a branch, a tag or a commit. `org/name:Q4_K_M` and `org/name/FILE.gguf` choose one of its GGUF files.
    ///
    /// # Errors
    /// [`Error::Config`] when `name` has another shape, or a variable of the environment means no path.
    pub fn new(name: &str) -> Result<Self> {
        Self::of(name, Repository::model)
    }

    /// The data set `org/name`, or `org/name@revision`: for [`Hub::file`] only.
    ///
    /// # Errors
    /// As [`Hub::new`].
    pub fn dataset(name: &str) -> Result<Self> {
        let hub = Self::of(name, Repository::dataset)?;
        match hub.choice {
            None => Ok(hub),
            Some(_) => Err(Error::Config {
                field: "repository",
                value: name.to_string(),
                reason: "expected `org/name` of a data set, with `@revision` if wanted".to_string(),
            }),
        }
    }

    fn of(name: &str, kind: fn(&str) -> Repository) -> Result<Self> {
        let name = parse(name)?;
        Ok(Self {
            repo: kind(&name.repository),
            revision: name.revision.unwrap_or("main").to_string(),
            choice: name.choice,
            token: env::token()?,
            cache_dir: None,
            endpoint: env::endpoint(),
            network: env::network(),
            timeout: TIMEOUT,
            progress: Arc::new(|_| {}),
            patience: Patience::default(),
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

    /// How often a request is repeated, and with which pauses.
    #[must_use]
    pub fn retries(mut self, retries: Retries) -> Self {
        self.patience.retries = retries;
        self
    }

    /// Called before each pause, on the calling thread. If not set, the pause is said on standard error where that is a terminal,
    /// and to the log.
    #[must_use]
    pub fn on_retry(mut self, report: impl Fn(&Retry<'_>) + Send + Sync + 'static) -> Self {
        self.patience.on_retry = Arc::new(report);
        self
    }

    /// Asked between requests, in pauses and between pieces of a file; `true` ends the call with
    /// [`Error::Interrupted`]. What came of a large file is kept.
    #[must_use]
    pub fn cancel_when(mut self, cancelled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.patience.cancelled = Arc::new(cancelled);
        self
    }

    /// Fetches what the cache lacks of a checkpoint: in safetensors, or a GGUF file.
    ///
    /// In safetensors that is `config.json`, `tokenizer.json`, `model.safetensors` or `model.safetensors.index.json` with its
    /// shards, and where they exist `generation_config.json`, `tokenizer_config.json` and `chat_template.jinja`.
    /// With everything else in the cache, an unreachable hub is taken to lack those three.
    ///
    /// A GGUF file is taken where the name chooses one, or where the repository has no weights in safetensors and no second one:
    /// all parts of it, and `tokenizer.json` and `chat_template.jinja` beside it where its metadata lacks them.
    ///
    /// # Errors
    /// [`Error::Hub`] with the reason as a [`Failure`]; [`Error::Config`] for a setting, or for a data set;
    /// [`Error::Io`] when the cache cannot be written for another reason than its size; [`Error::Json`] and
    /// [`Error::Corrupt`] for a damaged index, and for a damaged GGUF file; [`Error::Interrupted`].
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        match Fetch::new(self)?.checkpoint()? {
            Found::Folder(folder) => Ok(Checkpoint::named(folder, self.repo.name().to_string())),
            Found::Gguf(path, file) => {
                Ok(Checkpoint::gguf(path)?.renamed(format!("{}/{file}", self.repo.name())))
            }
        }
    }

    /// Fetches what [`checkpoint`](Self::checkpoint) does and returns where it lies: a folder, or a GGUF file.
    ///
    /// # Errors
    /// As [`Hub::checkpoint`].
    pub fn fetch(&self) -> Result<PathBuf> {
        match Fetch::new(self)?.checkpoint()? {
            Found::Folder(path) | Found::Gguf(path, _) => Ok(path),
        }
    }

    /// Fetches one file, for instance a GGUF, unless the cache holds it. Returns its path in the cache.
    ///
    /// # Errors
    /// As [`Hub::checkpoint`]; [`Error::Config`] also for a pickled format such as `.bin`.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        Fetch::new(self)?.file(name)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("repo", &format_args!("{}", self.repo))
            .field("revision", &self.revision)
            .field("choice", &self.choice)
            .field("token", &self.token)
            .field("cache_dir", &self.cache_dir)
            .field("network", &self.network)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
