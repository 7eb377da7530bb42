//! Recorded work of real orchestrators: a trajectory, what is asked about it, and what was written next.

mod generated;
mod item;
mod load;

pub use generated::generated;
pub use item::LogItem;
pub use load::{LoadOptions, LoadedLogs, load};
