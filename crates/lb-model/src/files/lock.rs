//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes that are read of what a holder wrote.
const HOLDER_BYTES: u64 = 200;

/// A file or folder that this process holds alone, until this is dropped or the process ends, however it ends. Other
/// processes are told who holds it by a hidden file beside a file, in a folder: `.NAME.lock`, `.lock`.
#[derive(Debug)]
pub struct Lock {
    file: File,
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
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Some systems let nobody read what is locked.
                let read = file.take(HOLDER_BYTES).read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim().to_owned() } else { "another process".to_owned() };
                return Ok(Err(Held { lock, holder }));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut taken = Self { file };
        // Who waits would like to know; who holds it can do without.
        let _ = taken.sign();
        Ok(Ok(taken))
    }

    fn sign(&mut self) -> io::Result<()> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "process {}, since {since} s after 1970", std::process::id())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The name stays: whoever waits has the same file open.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn beside(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.join(".lock");
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.lock"))
}
