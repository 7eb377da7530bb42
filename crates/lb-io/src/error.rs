//! The one error type of this crate; those of files are [`std::io::Error`].

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong before an HTTP client is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable of the environment says what cannot be.
    #[error("invalid `{field}` = {}: {reason}", crate::shown::quoted(value))]
    Config {
        /// The variable.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}
