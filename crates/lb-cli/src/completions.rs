//! `completions`: what a shell needs to complete the command line.

use std::io::Write;

use clap_complete::Shell;

use crate::{Exit, Result, command};

/// Print completions for a shell: latent-briefing completions bash > ~/.local/share/bash-completion/completions/latent-briefing
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "latent-briefing", &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}
