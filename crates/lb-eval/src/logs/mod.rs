//! Recorded work of real orchestrators: a trajectory, what is asked about it, and what was written next.

mod item;

pub use item::LogItem;
