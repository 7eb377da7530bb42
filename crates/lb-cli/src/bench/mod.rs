//! `bench`: handoffs and selections compared, on question sets, recorded logs, generated ones and recorded runs.

mod coordination;
mod debate;
mod episodes;
mod items;
mod logs;
mod merge;
mod policies;
mod questions;
mod retained;
mod sparse;
mod trained;
mod vectors;

use crate::{Exit, Result};

/// Compare handoffs and selections; every row is kept, runs go on where they were stopped
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    of: Of,
}

#[derive(clap::Subcommand)]
enum Of {
    Items(Box<items::Args>),
    Logs(logs::Args),
    Episodes(episodes::Args),
    Coordination(Box<coordination::Args>),
    Sparse(sparse::Args),
    Debate(debate::Args),
    Questions(questions::Args),
    Policies(Box<policies::Args>),
    Vectors(vectors::Args),
    Trained(trained::Args),
    Merge(merge::Args),
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    match &args.of {
        Of::Items(args) => items::run(args),
        Of::Logs(args) => logs::run(args),
        Of::Episodes(args) => episodes::run(args),
        Of::Coordination(args) => coordination::run(args),
        Of::Sparse(args) => sparse::run(args),
        Of::Debate(args) => debate::run(args),
        Of::Questions(args) => questions::run(args),
        Of::Policies(args) => policies::run(args),
        Of::Vectors(args) => vectors::run(args),
        Of::Trained(args) => trained::run(args),
        Of::Merge(args) => merge::run(args),
    }
}
