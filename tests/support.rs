//! `lb-testkit`, and the sandbox with the program that was built for the tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use latent_briefing::sandbox::{MontyConfig, MontyRepl, Repl, Result};

pub(crate) use lb_testkit::*;

/// The program that runs the code of sandboxes: `lb-repl` as these tests build it.
pub(crate) fn sandbox_program() -> PathBuf {
    env!("CARGO_BIN_EXE_lb-repl-tested").into()
}

/// The program `latent-briefing` with every command, as these tests build it.
pub(crate) fn latent_briefing() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latent-briefing-tested"));
    // What the machine of whoever runs the tests is set to must not matter.
    for name in ["HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LATENT_BRIEFING_DEVICE"]
    {
        command.env_remove(name);
    }
    command.env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
    command
}

/// A sandbox of the program `lb-repl`.
pub(crate) fn monty() -> Result<Box<dyn Repl>> {
    let worker = Some(sandbox_program());
    Ok(Box::new(MontyRepl::start(&MontyConfig { worker, ..MontyConfig::default() })?))
}
