//! Writing: a file is whole or as it was, and what is no file is not made one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Something that is written and then, in one step, there.
///
/// A missing or regular file is written beside its place and renamed; a link leads to its file. Pipes, terminals, the
/// null device and names of open files such as `/dev/stdout` are written to once everything is there. Folders and other
/// devices are refused.
#[derive(Debug)]
pub struct Output {
    temporary: NamedTempFile,
    to: To,
}

#[derive(Debug)]
enum To {
    File(PathBuf),
    Stream(File),
}

impl Output {
    /// Begins what is to be at `path`.
    ///
    /// # Errors
    /// Why `path` cannot be written.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::with_suffix(path, "")
    }

    /// Like [`create`](Self::create), for writers that look at the end of a name: that of [`path`](Self::path).
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn with_suffix(path: impl AsRef<Path>, suffix: &str) -> io::Result<Self> {
        let to = To::of(path.as_ref())?;
        let mut builder = tempfile::Builder::new();
        builder.suffix(suffix);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What the process's umask leaves of it; the default of temporary files is for the owner alone.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let temporary = match &to {
            To::File(target) => builder.tempfile_in(folder_of(target))?,
            To::Stream(_) => builder.tempfile()?,
        };
        Ok(Self { temporary, to })
    }

    /// Where it is until it is finished, for writers that take a path.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Puts it into its place, on disk.
    ///
    /// # Errors
    /// Why it cannot; then what was there is as it was.
    pub fn finish(self) -> io::Result<()> {
        match self.to {
            To::File(target) => {
                // Who may read what is replaced, and nobody else, may read what replaces it.
                if let Ok(before) = fs::metadata(&target) {
                    fs::set_permissions(self.temporary.path(), before.permissions())?;
                }
                self.temporary.as_file().sync_all()?;
                self.temporary.persist(&target).map_err(|failed| failed.error)?;
                sync_folder(folder_of(&target));
                Ok(())
            }
            To::Stream(mut stream) => {
                // A writer by path may have put another file into its place.
                let mut written = File::open(self.temporary.path())?;
                io::copy(&mut written, &mut stream)?;
                stream.flush()
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

/// Writes a whole file or nothing, see [`Output`].
///
/// # Errors
/// Those of [`Output`].
pub fn write_whole(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    let mut output = Output::create(path)?;
    output.write_all(bytes)?;
    output.finish()
}

impl To {
    fn of(path: &Path) -> io::Result<Self> {
        if is_open_file(path) {
            return Ok(Self::Stream(OpenOptions::new().append(true).open(path)?));
        }
        let kind = match fs::metadata(path) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link to nothing is no place for a file: who made it knows where.
                return match fs::symlink_metadata(path) {
                    Ok(_) => Err(io::Error::new(error.kind(), "a link that leads nowhere")),
                    Err(_) => Ok(Self::File(path.to_owned())),
                };
            }
            Err(error) => return Err(error),
        };
        if kind.is_file() {
            return Ok(Self::File(fs::canonicalize(path)?));
        }
        if kind.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder"));
        }
        if takes_text(path, kind) {
            return Ok(Self::Stream(OpenOptions::new().write(true).open(path)?));
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a pipe"))
    }
}

/// Names of what this process has open: what stands there is not replaced, though it may be a file.
fn is_open_file(path: &Path) -> bool {
    ["/dev/stdout", "/dev/stderr"].iter().any(|name| path == Path::new(name))
        || ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path.starts_with(folder))
}

#[cfg(unix)]
fn takes_text(path: &Path, kind: fs::FileType) -> bool {
    use std::io::IsTerminal;
    use std::os::unix::fs::FileTypeExt;
    let terminal = || File::open(path).is_ok_and(|file| file.is_terminal());
    kind.is_fifo() || (kind.is_char_device() && (path == Path::new("/dev/null") || terminal()))
}

#[cfg(not(unix))]
fn takes_text(_: &Path, _: fs::FileType) -> bool {
    false
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name reaches the disk with its folder. Best effort: not every system lets folders be opened.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
