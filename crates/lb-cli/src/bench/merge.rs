//! `bench merge`: the parts of a run on several machines, put together.

use std::path::PathBuf;

use lb_eval::pipeline::merge;
use serde_json::json;

use crate::output::Json;
use crate::{Exit, Result, say};

/// Put the rows of several folders of one run into another; the same command without --shard goes on there
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folders, each with the rows of a part.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// A new folder for all of them.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    json: Json,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let rows = merge(&args.folders, &args.out)?;
    say!("{rows} rows of {} folders in {}", args.folders.len(), args.out.display());
    args.json.end(&json!({ "rows": rows, "out": args.out }))?;
    Ok(Exit::Done)
}
