//! An orchestrator answers a question about a long text: `latent-briefing run`.
//!
//! `cargo run --release --features full --example rlm`

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_cli::program(&["run"])
}
