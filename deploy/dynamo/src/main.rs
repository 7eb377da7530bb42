//! The program: a worker that registers with Dynamo and serves until SIGTERM.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use lb_dynamo::{Args, Backend};

fn main() -> ExitCode {
    let served = Backend::new(Args::parse())
        .map_err(anyhow::Error::from)
        .and_then(|(backend, config)| dynamo_backend_common::run(Arc::new(backend), config));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latent-briefing-dynamo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
