//! The program `latent-briefing`: [`main`] is all of it, and [`program`] one of its commands as a program of its own.
//!
//! Each command is a file with the arguments that it takes and a function that carries it out. What it finds goes to stdout, as
//! text or with `--json` as JSON; what a person should know besides goes to stderr. The numbers that it ends with are those of
//! [`Exit`].
//!
//! A light build has `ask`, `explain`, `compact`, `cram`, `uncram`, `generate`, `quantize`, `quickstart`, `doctor` and `completions`; the feature
//! `hub` adds `fetch`, `serve` adds `serve`, `full` adds those and `run`, `bench` and `report`. A command that is not compiled in says so.

mod absent;
mod ask;
#[cfg(feature = "full")]
mod bench;
mod command;
mod compact;
mod completions;
mod cram;
mod doctor;
mod exit;
mod explain;
#[cfg(feature = "hub")]
mod fetch;
mod generate;
#[cfg(feature = "full")]
mod interrupt;
mod named;
#[cfg(feature = "full")]
mod orchestrator;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod progress;
mod quantize;
mod quickstart;
#[cfg(feature = "full")]
mod report;
#[cfg(feature = "full")]
mod run;
mod say;
#[cfg(feature = "serve")]
mod serve;
mod trajectory;
mod worker;

pub use command::{command, main, program};
pub use exit::Exit;
pub use output::write_file;
pub use progress::{bar, spinner};
pub use say::{complain, say, tell};
pub use worker::{checkpoint, worker};

/// Whatever stops a command.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The code of the README is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
