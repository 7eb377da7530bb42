//! Segments that arrive, and the workers that read them.

mod gate;
mod readers;

pub use gate::{Gate, GateBy};
pub use readers::{Offered, ReaderTokens, Readers};
