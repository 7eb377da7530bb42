#![doc = include_str!("../README.md")]

mod debate;
mod error;
mod sparse;

pub use debate::{Debate, DebateConfig, Debated, Reply, Told};
pub use error::{Error, Result};
pub use sparse::{Gate, GateBy, Offered, ReaderTokens, Readers};
