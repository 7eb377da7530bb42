//! `doctor`: what this machine and this build can do, and how fast.

mod machine;
#[cfg(feature = "full")]
mod sandbox;
mod speed;
#[cfg(feature = "hub")]
mod store;

use serde::Serialize;
use serde_json::Value;

use crate::output::Json;
use crate::worker::WorkerArgs;
use crate::{Exit, Result, say};

/// Say what this machine and this build can do: cores, vector units, GPU, cache, hub, sandbox, and a test of speed
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    worker: WorkerArgs,
    /// Leave the test of speed out, which takes up to ten seconds.
    #[arg(long)]
    no_speed: bool,
    #[command(flatten)]
    json: Json,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It works.
    Ok,
    /// It is not there, and nothing is wrong with that.
    Absent,
    /// It should work and does not.
    Failed,
}

/// What was found out about one thing.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    state: State,
    said: String,
    #[serde(flatten)]
    figures: Value,
}

impl Finding {
    fn ok(what: &'static str, said: String, figures: Value) -> Self {
        Self { what, state: State::Ok, said, figures }
    }

    fn absent(what: &'static str, said: impl Into<String>) -> Self {
        Self { what, state: State::Absent, said: said.into(), figures: Value::Null }
    }

    fn failed(what: &'static str, said: String) -> Self {
        Self { what, state: State::Failed, said, figures: Value::Null }
    }
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.json.begin();
    let mut findings = Vec::new();
    let mut found = |finding: Finding| {
        let mark = match finding.state {
            State::Ok => "",
            State::Absent => "none: ",
            State::Failed => "FAILED: ",
        };
        say!("{:<9} {mark}{}", finding.what, finding.said);
        findings.push(finding);
    };
    found(machine::build());
    found(machine::cores());
    found(machine::vectors());
    machine::memory().into_iter().for_each(&mut found);
    found(machine::gpu());
    found(machine::temporary_folder());
    around(&mut found);
    if !args.no_speed {
        found(speed::measured(&args.worker));
    }
    args.json.end(&findings)?;
    let failed = findings.iter().any(|finding| finding.state == State::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// What only some builds have.
fn around(found: &mut dyn FnMut(Finding)) {
    #[cfg(feature = "hub")]
    {
        found(store::cache());
        found(store::hub());
    }
    #[cfg(not(feature = "hub"))]
    found(Finding::absent("hub", "not in this build (feature `hub`); folders and GGUF files are read"));
    #[cfg(feature = "full")]
    {
        found(sandbox::monty());
        found(sandbox::cpython());
    }
    #[cfg(not(feature = "full"))]
    found(Finding::absent("sandbox", "not in this build (feature `full`)"));
}
