//! Where the hub and its cache are, and whether the hub answers: what a user wants to know before anything is fetched.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::client::Client;
use super::failure::{Failure, Place};
use super::names::Repository;
use super::patience::{Patience, Retries};
use super::{Network, env};
use crate::{Error, Result};

/// The hub as the environment has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The hub's address.
    pub endpoint: String,
    /// The folder that holds `models--org--name`; it may be missing still.
    pub cache_dir: PathBuf,
    /// Whether the hub may not be asked.
    pub offline: bool,
}

impl Reach {
    /// Reads the environment; see the [module](super).
    ///
    /// # Errors
    /// [`Error::Config`] where a variable means no path.
    pub fn from_env() -> Result<Self> {
        Ok(Self {
            endpoint: env::endpoint(),
            cache_dir: env::cache_dir()?,
            offline: env::network() == Network::Offline,
        })
    }

    /// Asks the hub for its front page, once and without a token, and tells how long the answer took; any answer will do.
    ///
    /// # Errors
    /// [`Error::Config`] for an address that is none; [`Error::Hub`] with [`Failure::Unreachable`] or [`Failure::TimedOut`].
    pub fn ask(&self, timeout: Duration) -> Result<Duration> {
        let patience = Patience { retries: Retries::NONE, ..Patience::default() };
        let client = Client::new(&self.endpoint, None, timeout, patience)?;
        let start = Instant::now();
        client.ping(&Place {
            repo: Repository::model("front-page"),
            revision: "main".to_owned(),
            file: String::new(),
        })?;
        Ok(start.elapsed())
    }

    /// Why [`ask`](Self::ask) had no answer, without the name of a repository.
    pub fn why(error: &Error) -> String {
        match error {
            Error::Hub { failure, .. } => match failure.as_ref() {
                Failure::Unreachable { reason, .. } => reason.clone(),
                other => other.to_string(),
            },
            other => other.to_string(),
        }
    }
}
