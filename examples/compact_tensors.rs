//! A cache from a safetensors file, compacted for the queries beside it, no model involved: `latent-briefing compact`.
//!
//! `cargo run --release --example compact_tensors -- --input IN.safetensors --output OUT.safetensors --keep-ratio 0.1`

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_cli::program(&["compact"])
}
