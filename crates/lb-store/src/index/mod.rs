//! The index: who may write what for how long, and what was used when. It holds nothing that objects and journals need:
//! without it they are found and served all the same.

mod embedded;
#[cfg(feature = "redis")]
mod redis;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::scheme_of;
use crate::clock::Clock;
use crate::error::{Error, Result};

pub use embedded::EmbeddedIndex;
#[cfg(feature = "redis")]
pub use redis::RedisIndex;

/// Characters of a key or an owner.
const LONGEST: usize = 256;
/// The longest lease, and the longest time to live.
const LONGEST_TIME: Duration = Duration::from_hours(24 * 365 * 100);

/// The right to write something, until it ends or goes to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub key: String,
    /// Who has it.
    pub owner: String,
    /// Larger than that of every lease before, over restarts too: [`Store::append_fenced`](crate::Store::append_fenced)
    /// refuses smaller ones.
    pub token: u64,
    /// Until when, in milliseconds after 1970 by the index's clock.
    pub until: u64,
}

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is the asker's.
    Lease(Lease),
    /// Another has it.
    Held {
        /// Until when at least, in milliseconds after 1970 by the index's clock.
        until: u64,
        /// How long that is from now.
        wait: Duration,
    },
}

/// When something was used, and until when it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub key: String,
    /// When it was used last, in milliseconds after 1970 by the index's clock.
    pub used: u64,
    /// When its time ends, likewise.
    pub expires: Option<u64>,
    /// Its bytes.
    pub bytes: u64,
}

/// Leases and last uses, by one clock: that of the process that has the index, or of the server it is on.
///
/// A key or an owner has 1 to 256 visible characters of ASCII. What is acknowledged stays, as far as what is below keeps what
/// it acknowledges.
#[async_trait]
pub trait Index: Debug + Send + Sync {
    /// Asks for a lease. Its owner gets a new one, and the one it had ends.
    ///
    /// # Errors
    /// [`Error::Field`], [`Error::Backend`].
    async fn acquire(&self, key: &str, owner: &str, time: Duration) -> Result<Acquired>;

    /// Lets a lease last for `time` from now.
    ///
    /// # Errors
    /// [`Error::Lost`] for one that ended or went to another; [`Error::Field`], [`Error::Backend`].
    async fn renew(&self, lease: &Lease, time: Duration) -> Result<Lease>;

    /// Ends a lease.
    ///
    /// # Errors
    /// Those of [`renew`](Self::renew).
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Notes that something of so many bytes is used, and kept for `keep` from now, without an end if `None`.
    ///
    /// # Errors
    /// [`Error::Field`], [`Error::Backend`].
    async fn touch(&self, key: &str, bytes: u64, keep: Option<Duration>) -> Result<()>;

    /// The `most` entries that were not used for longest, the oldest first.
    ///
    /// # Errors
    /// [`Error::Backend`].
    async fn least_recent(&self, most: usize) -> Result<Vec<Entry>>;

    /// At most `most` entries whose time has ended, the oldest first.
    ///
    /// # Errors
    /// [`Error::Backend`].
    async fn expired(&self, most: usize) -> Result<Vec<Entry>>;

    /// Forgets an entry; one that is not there is forgotten already.
    ///
    /// # Errors
    /// [`Error::Field`], [`Error::Backend`].
    async fn forget(&self, key: &str) -> Result<()>;
}

/// Opens an index: `memory:`, the path of a file, or `redis://HOST:PORT/NUMBER` with the feature `redis`, `rediss://`
/// with `redis-tls`. A server has a clock
/// of its own, the others take `clock`.
///
/// # Errors
/// [`Error::Feature`], [`Error::Field`], [`Error::InUse`], [`Error::Backend`].
pub async fn open(address: &str, clock: Arc<dyn Clock>) -> Result<Arc<dyn Index>> {
    match scheme_of(address) {
        None => Ok(Arc::new(EmbeddedIndex::open(Path::new(address), clock).await?)),
        Some(("memory", _)) => Ok(Arc::new(EmbeddedIndex::in_memory(clock)?)),
        #[cfg(feature = "redis")]
        Some(("redis", _)) => Ok(Arc::new(RedisIndex::connect(address, "lb").await?)),
        #[cfg(not(feature = "redis"))]
        Some(("redis", _)) => Err(Error::Feature { scheme: "redis", feature: "redis" }),
        #[cfg(feature = "redis-tls")]
        Some(("rediss", _)) => Ok(Arc::new(RedisIndex::connect(address, "lb").await?)),
        #[cfg(not(feature = "redis-tls"))]
        Some(("rediss", _)) => Err(Error::Feature { scheme: "rediss", feature: "redis-tls" }),
        // The rest may be a password.
        Some((scheme, _)) => {
            Err(Error::field("address", format!("{scheme}:"), "a path, memory: or redis://HOST:PORT"))
        }
    }
}

fn check(field: &'static str, name: &str) -> Result<()> {
    if (1..=LONGEST).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Error::field(field, name, format!("1 to {LONGEST} visible characters of ASCII")))
}

/// Milliseconds, at least one.
fn millis(field: &'static str, time: Duration) -> Result<u64> {
    if time.as_millis() == 0 || time > LONGEST_TIME {
        return Err(Error::field(field, format!("{time:?}"), "from 1 ms to 100 years"));
    }
    Ok(time.as_millis() as u64)
}
