//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes that are read of what a holder wrote.
const HOLDER_BYTES: u64 = 200;
/// What it begins with.
const SIGN: &str = "process";

/// A file or folder that this process holds alone, until this is dropped or the process ends, however it ends. Other
/// processes are told who holds it by a hidden file beside a file, in a folder: `.NAME.lock`, `.lock`. It goes with the
/// lock; what a killed process left of it holds nothing.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    /// Whether the file is one that this library made.
    signed: bool,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The file that says so.
    pub lock: PathBuf,
    /// As the holder wrote it: its process, since when.
    pub holder: String,
}

impl Lock {
    /// Takes a file, which may be missing still, or a folder, which may not.
    ///
    /// # Errors
    /// Why the lock's own file cannot be opened. Where another process has it, the inner error says which.
    pub fn take(path: impl AsRef<Path>) -> io::Result<Result<Self, Held>> {
        let lock = beside(path.as_ref());
        // What a link leads to is not ours, and neither is what is no file.
        if std::fs::symlink_metadata(&lock).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no file", lock.display()),
            ));
        }
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock)?;
            // Who held it may have taken the file away after it was opened here: then that lock is no other's hindrance.
            match Self::of(file, &lock)? {
                Ok(taken) if !is_at(&taken.file, &lock) => {}
                taken => return Ok(taken),
            }
        }
    }

    fn of(file: File, lock: &Path) -> io::Result<Result<Self, Held>> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Some systems let nobody read what is locked.
                let read = file.take(HOLDER_BYTES).read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim().to_owned() } else { "another process".to_owned() };
                return Ok(Err(Held { lock: lock.to_owned(), holder }));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut taken = Self { file, path: lock.to_owned(), signed: false };
        // Who waits would like to know; who holds it can do without.
        let _ = taken.sign();
        Ok(Ok(taken))
    }

    fn sign(&mut self) -> io::Result<()> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut before = Vec::new();
        (&mut self.file).take(HOLDER_BYTES).read_to_end(&mut before)?;
        // Another program's file of that name serves as well, and stays as it is.
        if !before.is_empty() && !before.starts_with(SIGN.as_bytes()) {
            return Ok(());
        }
        self.signed = true;
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{SIGN} {}, since {since} s after 1970", std::process::id())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only its own: one that was taken away by hand may have been followed by another's.
        if self.signed && is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

/// Whether the file that is open is the one of that name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// Elsewhere a file that is open is not taken away.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

fn beside(path: &Path) -> PathBuf {
    // Two names of one file are one lock.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.is_dir() {
        return path.join(".lock");
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.lock"))
}
