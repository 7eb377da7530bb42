#![doc = include_str!("../README.md")]

pub mod answers;
pub mod calls;
mod chain;
pub mod condition;
pub mod coordination;
pub mod datasets;
pub mod episodes;
mod error;
mod fault;
mod files;
mod hierarchy;
pub mod logs;
#[cfg(feature = "loop")]
pub mod metrics;
#[cfg(feature = "plots")]
mod picture;
pub mod pipeline;
#[cfg(feature = "loop")]
pub mod prompts;
#[cfg(feature = "loop")]
pub mod report;
pub mod retained;
#[cfg(feature = "loop")]
pub mod runs;
pub mod stats;
#[cfg(feature = "plots")]
pub mod study;
mod table;
pub mod tensor_job;
pub mod trained;
pub mod vectors;
mod views;

pub use chain::Chain;
pub use error::{Error, Result, with_causes};
pub use files::write_file;
pub use hierarchy::{HIERARCHICAL, Hierarchy};
