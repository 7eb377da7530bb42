//! The program: a worker that registers with Dynamo and serves until SIGTERM.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use lb_dynamo::{Args, Backend};

fn main() -> ExitCode {
    let (backend, config) = Backend::new(Args::parse());
    match dynamo_backend_common::run(Arc::new(backend), config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latent-briefing-dynamo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
