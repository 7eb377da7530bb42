#![doc = include_str!("../README.md")]

mod backend;
mod body;
mod clock;
mod error;
mod get;
pub mod index;
mod journal;
mod manifest;
mod names;
mod put;
mod record;
mod store;
mod sweep;

pub use body::Body;
pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use get::{Fetched, Listing};
pub use index::{Index, Lease};
pub use manifest::{About, Fingerprint, Kept, Manifest};
pub use names::{JournalId, LAST_RECORD, ObjectId, ObjectKind, Tenant};
pub use record::LARGEST_RECORD;
pub use store::{LEAST_GRACE, Store, StoreOptions};
pub use sweep::Swept;
