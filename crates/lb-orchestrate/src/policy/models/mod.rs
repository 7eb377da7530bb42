//! Several models behind one orchestrator: which is asked first, what a reply must be, who is asked next, and what that cost.

mod chain;
mod config;
#[cfg(feature = "api")]
mod connect;
mod report;
mod signals;
mod validation;

pub use chain::ModelChain;
pub use config::{ChainConfig, Difficulty, ModelLimits, ModelSpec, Rule, Service, When};
pub use report::{ChainReport, Choice, Fall, ModelReport, ModelUse};
pub use signals::Signals;
pub use validation::Validation;
