//! Commands that are not compiled in: they are told apart from commands that do not exist.

#[cfg(not(feature = "full"))]
use std::ffi::OsString;

#[cfg(not(feature = "full"))]
use crate::{Exit, Result, exit::NotBuilt};

/// Commands and the feature that each needs.
const ALL: [(&str, &str, bool); 5] = [
    ("run", "full", cfg!(feature = "full")),
    ("bench", "full", cfg!(feature = "full")),
    ("report", "full", cfg!(feature = "full")),
    ("serve", "serve", cfg!(feature = "serve")),
    ("fetch", "hub", cfg!(feature = "hub")),
];

/// What stands in the place of a command's own arguments.
#[cfg(not(feature = "full"))]
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Absent {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _any: Vec<OsString>,
}

/// The end of the help: what could be here.
pub(crate) fn note() -> Option<String> {
    let names: Vec<&str> = ALL.iter().filter(|(.., built)| !built).map(|(name, ..)| *name).collect();
    (!names.is_empty()).then(|| {
        format!("Not in this build: {}; cargo install latent-briefing --features full", names.join(", "))
    })
}

#[cfg(not(feature = "full"))]
pub(crate) fn run(name: &str) -> Result<Exit> {
    let (command, feature, _) = ALL.iter().find(|(known, ..)| *known == name).copied().unwrap_or(ALL[0]);
    Err(NotBuilt { command, feature }.into())
}
