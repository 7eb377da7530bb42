//! Agents that answer one question in rounds, each with what the others said before it.

mod config;
mod run;

pub use config::{DebateConfig, Told};
pub use run::{Debate, Debated, Reply};
