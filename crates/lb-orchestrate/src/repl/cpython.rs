//! A session of the Python that is installed. Full compatibility, and no security boundary.

use std::path::PathBuf;
use std::process::Command;

use super::session::{Launch, Session};
use super::{Executed, Repl, ReplHost, ReplLimits};
use crate::Result;

const KIND: &str = "cpython";
const DRIVER: &str = include_str!("cpython_driver.py");

/// How a [`CPythonRepl`] is set up.
#[derive(Clone, Debug)]
pub struct CPythonConfig {
    /// The interpreter, 3.9 or later; a name without a folder is looked for in `PATH`. Default: `python3`, on Windows
    /// `python`.
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
/// everything else that is said here. Use it for code that you would run yourself; [`MontyRepl`](super::MontyRepl) is
/// for code that you would not.
///
/// What it keeps from happening by accident: the environment holds nothing but `PATH`, so no keys; hooks refuse to open
/// files for writing, sockets, processes and signals; on systems that know such limits, no file grows, no core is
/// dumped, and memory is limited. Time, output and calls are limited as everywhere.
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
        // The process runs in another folder.
        let named = self.python.components().count() == 1;
        let python =
            if named { self.python.clone() } else { std::path::absolute(&self.python).unwrap_or_default() };
        let mut command = Command::new(python);
        command.args(["-I", "-S", "-u", "-c", DRIVER]).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Ok(command)
    }
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
