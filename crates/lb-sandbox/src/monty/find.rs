//! Where the program is that runs the code.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Set for the process that is to serve a session.
const MARK: &str = "LATENT_BRIEFING_SANDBOX";
/// The program that does nothing else.
const PROGRAM: &str = if cfg!(windows) { "lb-repl.exe" } else { "lb-repl" };

/// Whether this program serves a session when it is run again.
static SERVES: AtomicBool = AtomicBool::new(false);

/// To be called first thing in `main` by a program that uses [`MontyRepl`](super::MontyRepl) and does not ship `lb-repl`
/// beside it: the sandbox is then this program, run once more.
///
/// In the program itself it returns at once. In the process that a session starts it serves that session and ends the
/// process; nothing behind the call runs there, so what stands before it should do nothing.
pub fn sandbox_main() {
    if std::env::var_os(MARK).is_some_and(|mark| mark == OsStr::new("1")) {
        super::serve::serve();
    }
    SERVES.store(true, Ordering::Release);
}

/// The command that starts a session's process.
pub(super) fn command(worker: Option<&Path>) -> Result<Command> {
    let mut command = Command::new(find(worker)?);
    command.env_clear().env(MARK, "1");
    Ok(command)
}

/// A path that was given, this program, or the one beside it: where this program lies only its owner puts files. Nothing
/// is looked for in the folder that it runs in, in `PATH`, or in folders above.
fn find(worker: Option<&Path>) -> Result<PathBuf> {
    let missing = |reason: String| Error::Repl { kind: super::KIND, reason };
    if let Some(worker) = worker {
        // The process runs in another folder.
        return std::path::absolute(worker)
            .map_err(|error| missing(format!("cannot be found at {}: {error}", worker.display())));
    }
    let own =
        std::env::current_exe().map_err(|error| missing(format!("cannot find this program: {error}")))?;
    if SERVES.load(Ordering::Acquire) {
        // Of Linux this is the program that runs, whatever lies at its path by now.
        let running = Path::new("/proc/self/exe");
        return Ok(if cfg!(target_os = "linux") && running.exists() { running.to_owned() } else { own });
    }
    let beside = own.parent().map(|folder| folder.join(PROGRAM)).filter(|path| path.is_file());
    beside.ok_or_else(|| {
        missing(format!(
            "has no program to run in: give MontyConfig::worker a path to lb-repl, or call sandbox_main() first in main, \
             or put {PROGRAM} beside {}",
            own.display()
        ))
    })
}
