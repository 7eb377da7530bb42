//! A body on its way: read piece by piece, and hashed on the way.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lb_io::files;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::names::ObjectId;
use crate::store::blocking;

/// The bytes of an object.
#[derive(Clone, Debug)]
pub enum Body {
    /// A regular file, which is read twice and never held as a whole.
    File(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
}

impl From<PathBuf> for Body {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Body {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// A body that is being read.
pub(crate) struct Reader {
    source: Source,
    hasher: Sha256,
    read: u64,
}

enum Source {
    File(PathBuf, File),
    /// All of it, and what is not read yet.
    Bytes(Bytes, Bytes),
}

impl Reader {
    pub(crate) async fn open(body: Body) -> Result<Self> {
        let source = match body {
            Body::Bytes(bytes) => Source::Bytes(bytes.clone(), bytes),
            Body::File(path) => {
                blocking(move || match files::open_regular(&path) {
                    Ok(file) => Ok(Source::File(path, file)),
                    Err(error) => Err(Error::io("open", &path)(error)),
                })
                .await??
            }
        };
        Ok(Self { source, hasher: Sha256::new(), read: 0 })
    }

    /// The next `most` bytes, fewer at the end, none behind it.
    pub(crate) async fn next(mut self, most: usize) -> Result<(Self, Bytes)> {
        blocking(move || {
            let piece = match &mut self.source {
                Source::Bytes(_, rest) => rest.split_to(most.min(rest.len())),
                Source::File(path, file) => {
                    let mut piece = Vec::with_capacity(most);
                    let read = file.take(most as u64).read_to_end(&mut piece);
                    read.map_err(Error::io("read", path))?;
                    piece.into()
                }
            };
            self.hasher.update(&piece);
            self.read += piece.len() as u64;
            Ok((self, piece))
        })
        .await?
    }

    /// What was read so far: its name and size. Reading begins anew.
    pub(crate) fn rewind(&mut self) -> Result<(ObjectId, u64)> {
        let read = (ObjectId::of(&self.hasher.finalize_reset()), self.read);
        self.read = 0;
        match &mut self.source {
            Source::Bytes(all, rest) => *rest = all.clone(),
            Source::File(path, file) => file.rewind().map_err(Error::io("read", path))?,
        }
        Ok(read)
    }

    pub(crate) fn path(&self) -> &Path {
        match &self.source {
            Source::File(path, _) => path,
            Source::Bytes(..) => Path::new("bytes"),
        }
    }
}
