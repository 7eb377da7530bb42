//! The library as a program; what it can do says `latent-briefing --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    latent_briefing::cli::main()
}
