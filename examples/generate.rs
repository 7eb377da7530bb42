//! Continues a prompt or answers a conversation with any checkpoint: `latent-briefing generate`.
//!
//! `cargo run --release --example generate -- --worker Qwen3-0.6B-Q8_0.gguf --prompt "Once upon a time"`

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_cli::program(&["generate"])
}
