//! A local worker answers questions about an orchestrator's trajectory that reached it as a compacted KV cache.
//!
//! `cargo run --release --example quickstart` needs no argument and no network; it is `latent-briefing quickstart`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_cli::program(&["quickstart"])
}
