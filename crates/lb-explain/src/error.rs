//! The one error type of this crate.

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of `lb-explain`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A page's own template failed.
    #[error("the page cannot be made: {0}")]
    Page(#[source] Box<dyn std::error::Error + Send + Sync>),
}
