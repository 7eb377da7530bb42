//! A session of the Python that is installed. Full compatibility, and no security boundary.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::session::{Launch, Session};
use super::{Executed, Repl, ReplHost, ReplLimits, confine};
use crate::{Error, Result};

const KIND: &str = "cpython";
const DRIVER: &str = include_str!("cpython_driver.py");

/// How a [`CPythonRepl`] is set up.
#[derive(Clone, Debug)]
pub struct CPythonConfig {
    /// The interpreter, 3.9 or later; a name without a folder is looked for in the absolute folders of `PATH`. Default:
    /// `python3`, on Windows `python`.
    pub python: PathBuf,
    /// What a block may use up.
    pub limits: ReplLimits,
}

impl Default for CPythonConfig {
    fn default() -> Self {
        Self {
            python: if cfg!(windows) { "python" } else { "python3" }.into(),
            limits: ReplLimits::default(),
        }
    }
}

/// A session of an installed CPython in a process of its own.
///
/// **This is no security boundary.** Code that means harm can read every file that the user can read, and get around
/// most of what else is said here. Use it for code that you would run yourself; [`MontyRepl`](super::MontyRepl) is
/// for code that you would not.
///
/// What it keeps from happening by accident: the environment holds nothing but `PATH`, so no keys; no descriptor is
/// inherited; hooks refuse to open files for writing, sockets, processes and signals; on systems that know such limits,
/// no file grows, no core is dumped, and memory is limited. On Linux (x86-64, AArch64, RISC-V), where the interpreter
/// has `ctypes`, the kernel refuses the same things a second time, and ends the process when its host dies. Time, output
/// and calls are limited as everywhere.
///
/// - **Variables** live from block to block, also after a block that ran out of time or memory, because CPython can be
///   interrupted. A block that does not let itself be interrupted within a second, or is called off, ends the process: a
///   new one has the texts that were set, and nothing else. `stderr` says so.
/// - **`answer`** is a dictionary that notices its changes: the content reaches the host at the instant at which `ready`
///   becomes true. Where code binds `answer` to another dictionary inside a function, that one is looked at when the
///   block has ended. The rest of the block runs.
/// - **Memory** is the address space of the process above what it took to start. On systems without that limit it is
///   unlimited.
#[derive(Debug)]
pub struct CPythonRepl {
    session: Session<CPython>,
}

#[derive(Debug)]
struct CPython {
    python: PathBuf,
}

impl Launch for CPython {
    const KIND: &'static str = KIND;
    const SNAPSHOTS: bool = false;

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(find(&self.python)?);
        command.args(["-I", "-S", "-u", "-c", DRIVER]).env_clear();
        command.args(confine::harmless());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Ok(command)
    }
}

/// Where an interpreter lies. The system's own search would also take one from a folder of `PATH` that is relative, as
/// `.` is: whoever writes into the folder that a program runs in would choose the interpreter.
fn find(python: &Path) -> Result<PathBuf> {
    let missing = |reason: String| Error::Repl { kind: KIND, reason };
    if python.components().count() != 1 {
        // The process runs in another folder.
        return std::path::absolute(python)
            .map_err(|error| missing(format!("cannot be found at {}: {error}", python.display())));
    }
    let file = if cfg!(windows) { python.with_extension("exe") } else { python.to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.find_map(|folder| Some(folder.join(&file)).filter(|path| is_program(path))).ok_or_else(|| {
        missing(format!("cannot start {}: it is in no absolute folder of PATH", python.display()))
    })
}

fn is_program(path: &Path) -> bool {
    #[cfg(unix)]
    return path.metadata().is_ok_and(|found| {
        found.is_file() && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o111 != 0
    });
    #[cfg(not(unix))]
    return path.is_file();
}

impl CPythonRepl {
    /// Starts a session.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for limits that cannot be, [`Error::Repl`](crate::Error::Repl) where the
    /// interpreter is not found or does not start.
    pub fn start(config: &CPythonConfig) -> Result<Self> {
        let launch = CPython { python: config.python.clone() };
        Ok(Self { session: Session::start(launch, config.limits)? })
    }

    /// The id of the process that runs the code now.
    pub fn process_id(&self) -> Option<u32> {
        self.session.process_id()
    }
}

impl Repl for CPythonRepl {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn dialect(&self) -> &'static str {
        DIALECT
    }

    fn set_text(&mut self, name: &str, text: &str) -> Result<()> {
        self.session.set_text(name, text)
    }

    fn execute(&mut self, code: &str, host: &mut dyn ReplHost) -> Result<Executed> {
        self.session.execute(code, host)
    }

    fn variable(&mut self, name: &str) -> Result<Option<String>> {
        self.session.variable(name)
    }
}

const DIALECT: &str = "\
Your code runs in CPython with the standard library and no other packages. \
It cannot write files, open sockets or start processes, and it does not see the environment. \
Only what you print() is shown, and of an exception only the last line.";
