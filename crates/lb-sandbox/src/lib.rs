//! Where an orchestrator's code runs: a Python that lives apart from this process, with a few functions that lead back.
//!
//! [`MontyRepl`] is an interpreter in Rust, for code that nobody trusts; [`CPythonRepl`] is the Python that is installed.
//! Both run in a process of their own that gives up what it does not need.

mod confine;
mod cpython;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "monty")]
mod monty;
mod names;
#[cfg(feature = "monty")]
mod output;
mod process;
mod protocol;
mod repl;
mod session;

pub use cpython::{CPythonConfig, CPythonRepl};
pub use error::{Error, Result};
#[cfg(feature = "monty")]
pub use monty::{MontyConfig, MontyRepl, sandbox_main};
pub use repl::{AnswerCell, Executed, Fault, HostCall, Query, Repl, ReplHost, ReplLimits};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
