//! The program `latent-briefing`, run as a user runs it: what it ends with, and what it prints.

mod ask;
mod bench;
mod compact;
mod cram;
mod doctor;
mod help;
mod hub;
mod interrupt;
mod model;
mod run;

use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use crate::support::latent_briefing;

/// What the program ended with, and said.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// stdout as one JSON document.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

fn ran<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    let output = latent_briefing().args(arguments).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same for a command that is to succeed with `--json`.
fn json_of<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Value {
    let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let ended = ran(arguments.iter().map(OsStr::new).chain([OsStr::new("--json")]));
    assert_eq!(ended.code, 0, "{arguments:?}: {}{}", ended.out, ended.err);
    ended.json()
}

/// Notes that the built-in worker can read.
fn notes(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("notes.txt");
    let text = "finding: The Velmar ledger is kept by Anara.\n\
                tool: Grep the Oslund beacon: no match in part 2.\n\
                finding: The Torwick vault is kept by Selio.\n";
    std::fs::write(&path, text).unwrap();
    path
}

const TASK: &str = "Who keeps the Velmar ledger?";
