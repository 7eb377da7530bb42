//! Reading: regular files alone, and no more of them than their kind can have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a folder, a device or a pipe, which may have no end; [`io::ErrorKind::FileTooLarge`];
/// those of reading.
pub fn read_at_most(path: impl AsRef<Path>, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let length = file.metadata()?.len();
    let too_large = |bytes: u64| {
        let reason = format!("{bytes} bytes; at most {most} are read");
        io::Error::new(io::ErrorKind::FileTooLarge, reason)
    };
    if length > most {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(most + 1).read_to_end(&mut bytes)?;
    // It may have grown meanwhile, and some files of the system say that they are empty.
    if bytes.len() as u64 > most {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Reads a text in UTF-8 of at most `most` bytes.
///
/// # Errors
/// Those of [`read_at_most`]; [`io::ErrorKind::InvalidData`] where it is no UTF-8.
pub fn read_text_at_most(path: impl AsRef<Path>, most: u64) -> io::Result<String> {
    String::from_utf8(read_at_most(path, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Opens a regular file for reading.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for what is none; those of opening.
pub fn open_regular(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    let irregular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    // Opening a pipe waits for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(irregular());
    }
    let file = File::open(path)?;
    // Something else may have taken its place since.
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}
