//! The cache on disk: `models--org--name/{blobs,snapshots,refs,.no_exist}` (`datasets--org--name`), shared with the Python library.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hf_hub::{Cache, Repo};
use lb_io::files::{WORD, read_text_at_most};

use super::failure::{Failure, Place};
use super::names::{Repository, is_commit, is_key};
use crate::{Error, Result};

const LOCK_POLL: Duration = Duration::from_millis(100);

/// The part of the cache that holds one repository.
#[derive(Debug)]
pub(super) struct Layout {
    cache: Cache,
    repo: Repo,
}

impl Layout {
    pub(super) fn new(cache_dir: PathBuf, repo: &Repository, revision: &str) -> Self {
        Self { cache: Cache::new(cache_dir), repo: repo.at(revision) }
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join(self.repo.folder_name())
    }

    fn ref_path(&self) -> PathBuf {
        self.folder().join("refs").join(self.repo.revision())
    }

    /// The commit that the revision stood for when it was last fetched.
    pub(super) fn commit(&self) -> Option<String> {
        let revision = self.repo.revision();
        if is_commit(revision) {
            return Some(revision.to_string());
        }
        let commit = read_text_at_most(self.ref_path(), WORD).ok()?;
        let commit = commit.trim();
        is_key(commit).then(|| commit.to_string())
    }

    pub(super) fn set_commit(&self, commit: &str, place: &Place) -> Result<()> {
        if self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        self.put(&self.ref_path(), place, |path| fs::write(path, commit))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// A file of a snapshot. A link to a blob that is gone does not count.
    pub(super) fn find(&self, commit: &str, file: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit).join(file)).filter(|path| path.is_file())
    }

    fn absent_path(&self, commit: &str, file: &str) -> PathBuf {
        self.folder().join(".no_exist").join(commit).join(file)
    }

    /// Whether the hub once said that this commit has no such file.
    pub(super) fn is_absent(&self, commit: &str, file: &str) -> bool {
        self.absent_path(commit, file).is_file()
    }

    pub(super) fn mark_absent(&self, commit: &str, place: &Place) -> Result<()> {
        self.put(&self.absent_path(commit, &place.file), place, |path| fs::write(path, ""))
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// Where a blob grows; nothing loads a file of this name.
    pub(super) fn part(&self, etag: &str) -> PathBuf {
        self.blob(&format!("{etag}.incomplete"))
    }

    /// Makes a whole blob visible in a snapshot.
    pub(super) fn link(&self, etag: &str, commit: &str, place: &Place) -> Result<PathBuf> {
        let pointer = self.snapshot(commit).join(&place.file);
        let up = "../".repeat(2 + place.file.matches('/').count());
        self.put(&pointer, place, |path| point(path, &self.blob(etag), &format!("{up}blobs/{etag}")))?;
        Ok(pointer)
    }

    /// Writes beside `path`, then renames.
    fn put(&self, path: &Path, place: &Place, write: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        create_parent(path, place)?;
        let unique = format!("{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.folder().join(unique);
        let done = write(&temporary).and_then(|()| fs::rename(&temporary, path));
        done.map_err(|source| {
            // Best effort: the write's own error is the one to report.
            let _ = fs::remove_file(&temporary);
            place.write_error(path, source)
        })
    }

    /// Waits for other processes (the Python library included) that fetch the same blob, as long as it grows.
    pub(super) fn lock(&self, etag: &str, patience: Duration, place: &Place) -> Result<File> {
        let locks = self.cache.path().join(".locks").join(self.repo.folder_name());
        let path = locks.join(format!("{etag}.lock"));
        create_parent(&path, place)?;
        let lock = File::create(&path).or_else(|e| match e.kind() {
            // Another user's lock in a shared cache can be waited for without writing to it.
            std::io::ErrorKind::PermissionDenied => File::open(&path).map_err(|_| e),
            _ => Err(e),
        });
        let lock = lock.map_err(|source| place.write_error(&path, source))?;
        let grown = || fs::metadata(self.part(etag)).map(|m| m.len()).ok();
        let (mut last, mut since) = (grown(), Instant::now());
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(source)) => return Err(Error::Io { path, source }),
                Err(TryLockError::WouldBlock) if grown() != last => (last, since) = (grown(), Instant::now()),
                Err(TryLockError::WouldBlock) if since.elapsed() > patience => {
                    return Err(place.error(Failure::Busy { lock: path }));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            }
        }
    }
}

pub(super) fn create_parent(path: &Path, place: &Place) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|source| place.write_error(parent, source))
}

#[cfg(unix)]
fn point(path: &Path, _blob: &Path, relative: &str) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

/// Where links need rights, the blob moves into the snapshot, as the Python library does it.
#[cfg(not(unix))]
fn point(path: &Path, blob: &Path, _relative: &str) -> std::io::Result<()> {
    fs::rename(blob, path)
}
