//! Briefing episodes, conditions, metrics and reports.
//!
//! [`episodes`] makes logs and questions, [`trial`] answers them through every handoff, [`summary`] and [`report`]
//! turn the rows into tables, each accuracy with its interval. [`tensor_job`] compacts caches that lie in files.
//! [`handoffs`] replays a recorded run under every handoff, [`questions`] whole files of them.
//! [`logs`] reads recorded trajectories, [`retained`] measures how much of one a handoff keeps.
//! [`datasets`] reads other people's question sets and generates some, [`prompts`] and [`metrics`] ask and score as their
//! authors do, [`mod@bench`] answers them under every condition and reports, [`stats`] says what a difference is worth.

pub mod bench;
pub mod datasets;
pub mod episodes;
mod error;
pub mod handoffs;
pub mod logs;
pub mod metrics;
mod picture;
pub mod prompts;
pub mod questions;
pub mod report;
pub mod retained;
pub mod stats;
pub mod study;
pub mod summary;
pub mod tensor_job;
pub mod trial;
mod way;

pub use error::{Error, Result};
