//! The one error type of this crate. What another library says is shown by its beginning, without keys.

use std::io;
use std::path::{Path, PathBuf};

use lb_io::secrets::masked;
use lb_io::shown::{explained, quoted};

use crate::names::JournalId;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why something is not kept, or not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that cannot be.
    #[error("invalid `{field}` = {}: {reason}", quoted(value))]
    Field {
        /// The argument.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address whose kind of store this build does not have.
    #[error("no store for `{scheme}:` in this build: it needs the feature `{feature}` of lb-store")]
    Feature {
        /// What the address begins with.
        scheme: &'static str,
        /// What turns it on.
        feature: &'static str,
    },
    /// Nothing of that name.
    #[error("{name} is not there")]
    Absent {
        /// The object or journal.
        name: String,
    },
    /// It was made for something else than what it is wanted for.
    #[error("{name} was made with `{field}` = {}, wanted is {}", quoted(stored), quoted(wanted))]
    Mismatch {
        /// The object.
        name: String,
        /// The field of the fingerprint.
        field: &'static str,
        /// Its value there.
        stored: String,
        /// The value asked for.
        wanted: String,
    },
    /// What is there is not what was put there. It stays damaged until it is removed.
    #[error("{object} is damaged: {}", quoted(reason))]
    Damaged {
        /// The object or record.
        object: String,
        /// How that is known.
        reason: String,
    },
    /// Its time has passed.
    #[error("{name} has expired, {expires} ms after 1970")]
    Expired {
        /// The object.
        name: String,
        /// When, in milliseconds after 1970.
        expires: u64,
    },
    /// Another record has that number.
    #[error("record {number} of {journal} is taken by another")]
    Taken {
        /// The journal.
        journal: JournalId,
        /// The number asked for.
        number: u64,
    },
    /// A record is missing below others, or below the one to append.
    #[error("record {number} of {journal} is missing")]
    Gap {
        /// The journal.
        journal: JournalId,
        /// The number that is missing.
        number: u64,
    },
    /// The journal was removed.
    #[error("{journal} was removed")]
    Removed {
        /// The journal.
        journal: JournalId,
    },
    /// A writer whose lease went to another.
    #[error("token {token} may not write to {journal}: record {number} was written with token {newer}")]
    Fenced {
        /// The journal.
        journal: JournalId,
        /// The record that a later holder wrote.
        number: u64,
        /// The writer's token.
        token: u64,
        /// The later holder's token.
        newer: u64,
    },
    /// A lease that ended, or went to another.
    #[error("the lease on `{key}` with token {token} is lost")]
    Lost {
        /// What was leased.
        key: String,
        /// The token that no longer counts.
        token: u64,
    },
    /// Another process has the index.
    #[error("{} is open in another process; an index that several share is Redis", path.display())]
    InUse {
        /// The index's file.
        path: PathBuf,
    },
    /// A body that was written to while it was put.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// The body's file.
        path: PathBuf,
    },
    /// A body that took longer than a sweep elsewhere would wait for its manifest.
    #[error("putting {name} took {seconds} s; with this grace it may take {most}")]
    Slow {
        /// The object.
        name: String,
        /// Seconds it took.
        seconds: u64,
        /// Half of the grace.
        most: u64,
    },
    /// A file of the caller's.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store failed.
    #[error("cannot {action} {name}: {reason}")]
    Backend {
        /// What was tried.
        action: &'static str,
        /// With what.
        name: String,
        /// Why, without keys.
        reason: String,
    },
}

impl Error {
    pub(crate) fn field(field: &'static str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field, value: value.into(), reason: reason.into() }
    }

    pub(crate) fn damaged(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { object: object.into(), reason: reason.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// What a library reports. Its text is kept, not itself: a chain of sources is printed whole elsewhere.
    pub(crate) fn backend(
        action: &'static str,
        name: impl Into<String>,
        reason: &dyn std::fmt::Display,
    ) -> Self {
        Self::Backend { action, name: name.into(), reason: harmless(reason) }
    }
}

/// A service's answer about a wrong signature repeats who signed, and what.
fn harmless(reason: &dyn std::fmt::Display) -> String {
    let text = reason.to_string();
    let cut = ["<AWSAccessKeyId", "<StringToSign", "<AuthenticationErrorDetail"];
    let end = cut.iter().filter_map(|sign| text.find(sign)).min().unwrap_or(text.len());
    explained(&masked(&text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_services_are_cut_before_keys() {
        let text = "403: <Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIAREADME</AWSAccessKeyId></Error>";
        assert_eq!(harmless(&text), "403: <Error><Code>SignatureDoesNotMatch</Code>");
        lb_io::secrets::remember("secret-of-a-unit-test");
        assert_eq!(harmless(&"with secret-of-a-unit-test"), "with [hidden]");
    }
}
