//! Why a server does not start, or ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use lb_io::shown::{explained, quoted};

/// Errors of `lb-serve`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Without keys a server answers whoever reaches it, so that only this machine may.
    #[error(
        "{0} is reached from other machines, and there are no keys: name a file of keys, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file of keys says nothing clear.
    #[error("{}{}: {reason}", .path.display(), if *line == 0 { String::new() } else { format!(", line {line}") })]
    Keys {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 for the whole.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A name that no tenant can have.
    #[error("{:?} is no tenant: want 1 to 64 letters, digits, - and _", quoted(name))]
    Tenant {
        /// The name.
        name: String,
    },
    /// A file or folder cannot be used.
    #[error("{}: {}", .path.display(), explained(reason))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The store cannot be used.
    #[error("the store: {}", explained(reason))]
    Store {
        /// Why.
        reason: String,
    },
    /// An argument is out of range.
    #[error("{field} = {value}: {reason}")]
    Config {
        /// Which.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is wanted.
        reason: &'static str,
    },
    /// The operating system gave no thread, socket or signal.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The worker cannot have sessions.
    #[error(transparent)]
    Session(#[from] lb_session::Error),
}

/// Results of `lb-serve`.
pub type Result<T> = std::result::Result<T, Error>;
