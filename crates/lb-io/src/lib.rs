//! What every crate that touches the world outside does alike: files that are written whole and read within bounds
//! ([`files`]), text from elsewhere that is shown harmlessly ([`shown`]), keys that never appear in what is written
//! ([`secrets`]), and with the feature `http` the certificates, proxies and pauses of HTTP clients.
//!
//! ```
//! use lb_io::shown::visible;
//!
//! // What would clear a terminal is seen instead.
//! assert_eq!(visible("done\u{1b}[2J"), "done\\u{1b}[2J");
//! ```

mod error;
pub mod files;
#[cfg(feature = "http")]
pub mod http;
pub mod secrets;
pub mod shown;

pub use error::{Error, Result};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
