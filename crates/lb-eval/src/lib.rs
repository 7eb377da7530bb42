//! Briefing episodes, conditions, metrics and reports.
pub mod episodes;
mod error;

pub use error::{Error, Result};
