//! LongBench v2, and other sets of questions about long texts, under several handoffs: `latent-briefing bench items`.
//!
//! `cargo run --release --features full --example longbench_v2` answers the bundled synthetic set with the built-in worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_cli::program(&["bench", "items"])
}
