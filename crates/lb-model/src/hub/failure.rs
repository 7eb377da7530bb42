//! What can go wrong between the hub and the cache.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// 401 or 403: a gated or private repository.
    #[error("access denied ({status}): accept the model's terms on its page; {token}")]
    Denied {
        /// The HTTP status.
        status: u16,
        /// Whether a token was sent.
        token: TokenUse,
    },
    /// Another HTTP status than those above, for instance 429 or 503.
    #[error("the server answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
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
