//! Briefing episodes, conditions, metrics and reports.
//!
//! [`episodes`] makes logs and questions, [`trial`] answers them through every handoff, [`summary`] and [`report`]
//! turn the rows into tables, each accuracy with its interval. [`tensor_job`] compacts caches that lie in files.
//! With the feature `loop`, [`handoffs`] replays a recorded run under every handoff, [`questions`] whole files of them.
//! [`logs`] reads recorded trajectories, [`retained`] measures how much of one a handoff keeps.
//! [`datasets`] reads other people's question sets and generates some, [`prompts`] and [`metrics`] ask and score as their
//! authors do, [`mod@bench`] answers them under every condition and reports, [`stats`] says what a difference is worth.

#[cfg(feature = "loop")]
pub mod bench;
pub mod conditions;
pub mod datasets;
pub mod episodes;
mod error;
mod fingerprint;
#[cfg(feature = "loop")]
pub mod handoffs;
mod lines;
pub mod logs;
#[cfg(feature = "loop")]
pub mod metrics;
#[cfg(feature = "plots")]
mod picture;
#[cfg(feature = "loop")]
pub mod prompts;
#[cfg(feature = "loop")]
pub mod questions;
pub mod report;
pub mod retained;
pub mod stats;
pub mod store;
#[cfg(feature = "plots")]
pub mod study;
pub mod summary;
pub mod tensor_job;
pub mod trial;
mod views;
mod way;

pub use error::{Error, Result};
