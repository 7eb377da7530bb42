//! `lb-testkit`, and the sandbox with the program that was built for the tests.

use std::path::PathBuf;

use latent_briefing::sandbox::{MontyConfig, MontyRepl, Repl, Result};

pub(crate) use lb_testkit::*;

/// The program that runs the code of sandboxes: `lb-repl` as these tests build it.
pub(crate) fn sandbox_program() -> PathBuf {
    env!("CARGO_BIN_EXE_lb-repl-tested").into()
}

/// A sandbox of that program.
pub(crate) fn monty() -> Result<Box<dyn Repl>> {
    let worker = Some(sandbox_program());
    Ok(Box::new(MontyRepl::start(&MontyConfig { worker, ..MontyConfig::default() })?))
}
