//! Files that are whole or not there.

use std::path::Path;

use lb_io::files::write_whole;

use crate::{Error, Result};

/// Writes a whole file or nothing, see [`Output`](lb_io::files::Output).
///
/// # Errors
/// [`Error::Io`] names the file.
pub fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    write_whole(path, content).map_err(|source| Error::Io { path: path.to_owned(), source })
}
