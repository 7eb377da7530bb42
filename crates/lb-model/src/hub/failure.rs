//! What can go wrong between the hub and the cache.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_io::shown::quoted;

use super::names::Repository;
use crate::Error;

/// Why a file of the hub could not be had. [`Error::Hub`] names the repository, the revision and the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Offline, and the cache does not hold the file.
    #[error("not in the cache {}, and the hub may not be asked (offline)", cache.display())]
    NotCached {
        /// The folder that was searched.
        cache: PathBuf,
    },
    /// No such repository, or one that this user may not see: the hub does not tell these apart.
    #[error("the hub shows no such repository; it may be private ({token}); for a folder, check the path")]
    NoRepository {
        /// Whether a token was sent.
        token: TokenUse,
    },
    /// The repository has no such branch, tag or commit.
    #[error("the repository has no such revision")]
    NoRevision,
    /// The repository has no such file at this revision.
    #[error("the repository has no such file")]
    NoFile,
    /// 401 or 403: a gated or private repository, or a token that is not accepted.
    #[error("access denied ({status}): {}{}", remedy(*status, *gated, *token, page), said.as_ref().map_or(String::new(), |said| format!("; the hub says: {said}")))]
    Denied {
        /// The HTTP status.
        status: u16,
        /// Whether the hub says that the model's terms must be accepted.
        gated: bool,
        /// The repository's page.
        page: String,
        /// Whether a token was sent.
        token: TokenUse,
        /// What the hub said.
        said: Option<String>,
    },
    /// Another HTTP status than those above, for instance 429 or 503.
    #[error("the server answered {status}{}", after(*status, *requests, retry_after.as_ref()))]
    Status {
        /// The HTTP status.
        status: u16,
        /// How many requests were answered so.
        requests: usize,
        /// How long the server asked to wait in the end.
        retry_after: Option<Duration>,
    },
    /// The repository holds several GGUF files and the name chooses none, or none of those that there are.
    #[error("{}", choices(repo, asked.as_deref(), files))]
    Choose {
        /// The repository.
        repo: String,
        /// What was asked for.
        asked: Option<String>,
        /// The files, with their sizes in bytes where the server says them; those in parts once, with all parts' size.
        files: Vec<(String, Option<u64>)>,
    },
    /// A part of a GGUF file is missing from the repository.
    #[error("the repository lacks this part of the model")]
    NoPart,
    /// The repository holds no weights in a format that is read here.
    #[error("the repository has no safetensors and no GGUF; it has {}", listed(found))]
    NoWeights {
        /// The files that look like weights.
        found: Vec<String>,
    },
    /// A reply without a header that is needed, or with one that contradicts the others.
    #[error("the server's reply has no usable `{header}`")]
    BadReply {
        /// The header.
        header: &'static str,
    },
    /// No connection: name not found, refused, TLS.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// The hub's address.
        endpoint: String,
        /// What the HTTP library said.
        reason: String,
    },
    /// The server went silent, or sent next to nothing for as long.
    #[error("the server was silent or too slow for {} s", after.as_secs_f64())]
    TimedOut {
        /// The limit: [`Hub::timeout`](super::Hub::timeout).
        after: Duration,
    },
    /// The connection ended before the file did. The next call goes on where this one ended, if the hub announces
    /// the file's sha256 (that of all weights), and starts over otherwise.
    #[error("the connection ended after {got} of {} bytes; the next attempt at a large file goes on from there", size.map_or("unknown".to_string(), |s| s.to_string()))]
    Cut {
        /// Bytes on disk, under a name that nothing loads.
        got: u64,
        /// Size of the file in bytes, where the server said it.
        size: Option<u64>,
    },
    /// What came is not what the hub announced. It was deleted.
    #[error("the content has sha256 {got}, the hub announced {expected}; it was deleted")]
    Mismatch {
        /// The hub's sha256.
        expected: String,
        /// That of the bytes that came.
        got: String,
    },
    /// A text file beyond any sensible size, or a file of unannounced size that does not end.
    #[error("{size} bytes or more, the limit for this file is {limit}")]
    TooLarge {
        /// Announced or received bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No space is left for the cache. What came is kept for the next call.
    #[error("no space left on the disk of {}; what came of a large file is kept for the next attempt", path.display())]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
    },
    /// Another process holds the lock of this file and makes no progress.
    #[error("another process is fetching this file and makes no progress; its lock is {}", lock.display())]
    Busy {
        /// The lock.
        lock: PathBuf,
    },
}

/// What to do about a refused request.
fn remedy(status: u16, gated: bool, token: TokenUse, page: &str) -> String {
    match (gated, token) {
        (true, TokenUse::None) => {
            format!("accept the model's terms at {page}, then set HF_TOKEN or log in with `hf auth login`")
        }
        (true, TokenUse::Sent) => {
            format!("the token's account has not been granted access; accept the model's terms at {page}")
        }
        (false, TokenUse::None) => {
            format!("if {page} is private, set HF_TOKEN or log in with `hf auth login`")
        }
        (false, TokenUse::Sent) if status == 401 => {
            "the token is not accepted; renew it with `hf auth login`, or unset HF_TOKEN for a public model"
                .to_string()
        }
        (false, TokenUse::Sent) => {
            format!("the token may not read {page}; give it the right to, or accept the model's terms there")
        }
    }
}

fn after(status: u16, requests: usize, retry_after: Option<&Duration>) -> String {
    let often = if requests > 1 { format!(" to {requests} requests") } else { String::new() };
    let asked = retry_after.map(|pause| format!(" and asks to wait {:.0} s", pause.as_secs_f64()));
    let advice = if status == 429 { "; with a token (HF_TOKEN) more requests are allowed" } else { "" };
    often + &asked.unwrap_or_default() + advice
}

/// Names of a list that an error shows.
const SHOWN: usize = 20;

fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The files to choose from, and how.
fn choices(repo: &str, asked: Option<&str>, files: &[(String, Option<u64>)]) -> String {
    let begin = match asked {
        Some(asked) => format!("`{}` does not name one of its GGUF files", quoted(asked)),
        None => "it holds several GGUF files".to_string(),
    };
    let (example, tag) =
        files.first().map_or(("FILE.gguf", "Q4_K_M"), |(path, _)| (path.as_str(), tag_of(path)));
    let lines = files.iter().take(SHOWN).map(|(path, size)| {
        let size = size.map(|size| format!(" ({})", human(size))).unwrap_or_default();
        format!("\n  {}{size}", quoted(path))
    });
    let more = files.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    format!("{begin}; choose one, as {repo}:{tag} or {repo}/{example}:{}{rest}", lines.collect::<String>())
}

/// What stands for a file in short: the end of its name.
fn tag_of(path: &str) -> &str {
    let name = super::gguf::stem(path);
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    name.rsplit_once(['-', '.']).map_or(name, |(_, tag)| tag)
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

impl Failure {
    /// A status that one request was answered with.
    pub(super) fn status(status: u16) -> Self {
        Self::Status { status, requests: 1, retry_after: None }
    }
}

/// Whether a request carried a token. Its text is in no error and no `Debug` output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// No token was found.
    None,
    /// A token was sent.
    Sent,
}

impl std::fmt::Display for TokenUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "no token was sent: set HF_TOKEN or log in with `hf auth login`",
            Self::Sent => "the token that was sent does not give access",
        })
    }
}

/// What is being fetched, as errors name it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) repo: Repository,
    pub(super) revision: String,
    pub(super) file: String,
}

impl Place {
    pub(super) fn error(&self, failure: Failure) -> Error {
        let Self { repo, revision, file } = self.clone();
        Error::Hub { repo: repo.to_string(), revision, file, failure: Box::new(failure) }
    }

    /// A failed write below the cache folder.
    pub(super) fn write_error(&self, path: &Path, source: io::Error) -> Error {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.to_path_buf();
        match source.kind() {
            StorageFull | QuotaExceeded => self.error(Failure::DiskFull { path }),
            _ => Error::Io { path, source },
        }
    }
}

/// The failure of the hub inside an error.
pub(super) fn failure_of(error: &Error) -> Option<&Failure> {
    match error {
        Error::Hub { failure, .. } => Some(failure),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_failure() {
        let place = Place {
            repo: Repository::model("org/tiny"),
            revision: "main".into(),
            file: "model.safetensors".into(),
        };
        let path = Path::new("cache/blobs/x.incomplete");
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = place.write_error(path, kind.into());
            assert_eq!(failure_of(&error), Some(&Failure::DiskFull { path: path.to_path_buf() }));
            for word in ["org/tiny", "main", "model.safetensors", "no space", "x.incomplete"] {
                assert!(error.to_string().contains(word), "{error}");
            }
        }
        let error = place.write_error(path, io::ErrorKind::PermissionDenied.into());
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
    }
}
