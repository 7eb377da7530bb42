//! How much of a recorded trajectory's worth each handoff keeps: `latent-briefing bench logs`.
//!
//! `cargo run --release --features full --example logs -- --data FILE.jsonl --worker MODEL`; without arguments, generated logs.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_cli::program(&["bench", "logs"])
}
