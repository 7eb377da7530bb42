#![doc = include_str!("../README.md")]

mod cartridge;
mod cramming;
mod error;
mod loss;

pub use cartridge::{Learning, Lesson, TrainedBriefing};
pub use cramming::{CramStep, Crammed, CrammedText, Cramming};
pub use error::{Error, Result};
pub use loss::{Aim, loss, right};
