#![doc = include_str!("../README.md")]

pub mod answers;
pub mod calls;
pub mod condition;
pub mod datasets;
pub mod episodes;
mod error;
mod fault;
mod files;
pub mod logs;
pub mod metrics;
mod picture;
pub mod pipeline;
pub mod prompts;
pub mod report;
pub mod retained;
pub mod runs;
pub mod stats;
pub mod study;
mod table;
pub mod tensor_job;
mod views;

pub use error::{Error, Result, with_causes};
pub use files::write_file;
