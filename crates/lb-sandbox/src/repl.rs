//! A session as its user sees it: what runs, what it calls, what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;

/// A Python session in a process of its own. Variables live from block to block.
///
/// The session knows, besides what was set with [`set_text`](Self::set_text): `llm_query`, `llm_query_batched`,
/// `rlm_query`, `rlm_query_batched` and `note`, which call the host; `SHOW_VARS()` and `FINAL_VAR(name)`; the dictionary `answer`, at first
/// `{"content": "", "ready": False}`; `FINAL(value)`, which sets it and makes it ready. A text that is bound to `answer` is a
/// draft.
pub trait Repl: Send {
    /// The kind of session, as logs have it.
    fn kind(&self) -> &'static str;

    /// What an orchestrator should know of the Python it writes for: what is missing, what is forbidden. Plain sentences
    /// for the system prompt.
    fn dialect(&self) -> &str;

    /// Sets a variable to a text.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a name that is no identifier or means something else in a session, and
    /// for a text of more than 32 MiB or half of [`ReplLimits::memory`]; [`Error::Repl`](crate::Error::Repl) where the
    /// session cannot go on.
    fn set_text(&mut self, name: &str, text: &str) -> Result<()>;

    /// Runs a block of code. Whatever the code does wrong is in the result; the session goes on.
    ///
    /// # Errors
    /// [`Error::Repl`](crate::Error::Repl) where the session cannot go on, also not after a restart.
    fn execute(&mut self, code: &str, host: &mut dyn ReplHost) -> Result<Executed>;

    /// A variable as `str()` shows it, `None` where there is none of that name.
    ///
    /// # Errors
    /// [`Error::Repl`](crate::Error::Repl) where the session cannot go on.
    fn variable(&mut self, name: &str) -> Result<Option<String>>;
}

/// What the functions of a session lead to.
pub trait ReplHost {
    /// Answers a call, one text for each query. It never fails: what goes wrong is a text that begins with `Error: `.
    fn call(&mut self, call: HostCall) -> Vec<String>;

    /// Whether the block should be stopped; asked often while code runs.
    fn cancelled(&self) -> bool;
}

/// A call of a session's function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostCall {
    /// `llm_query`, `llm_query_batched`: the worker answers.
    Llm(Vec<Query>),
    /// `rlm_query`, `rlm_query_batched`: a loop of its own for each.
    Rlm(Vec<Query>),
    /// `note(text)` or `note(key, text)`: kept for the workers; a later note of the same key replaces the earlier one.
    Note {
        /// What the note is about.
        key: Option<String>,
        /// What it says.
        text: String,
    },
}

/// One prompt of a call: `llm_query(prompt, document=None, brief=True)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// What is asked.
    pub prompt: String,
    /// A piece of a document that this call alone sees, before the prompt.
    pub document: Option<String>,
    /// Whether the trajectory goes along.
    pub brief: bool,
}

/// What a block of code did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Executed {
    /// What it printed, cut to [`ReplLimits::output_chars`] with a note of how much was cut.
    pub stdout: String,
    /// The last line of the exception that ended it, or what limit it ran into; empty where nothing went wrong.
    pub stderr: String,
    /// What went wrong, by kind.
    pub fault: Option<Fault>,
    /// The session's own variables as short texts: not the functions, not what begins with an underscore.
    pub locals: BTreeMap<String, String>,
    /// What is in `answer`.
    pub answer: AnswerCell,
    /// Time that the code took, without that of the host's calls.
    pub elapsed: Duration,
    /// Calls of the host.
    pub calls: usize,
}

/// The dictionary `answer` of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerCell {
    /// `str(answer["content"])`; where `ready` was set, at that instant.
    pub content: String,
    /// Whether `answer["ready"]` was set to something true.
    pub ready: bool,
}

/// Why a block ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// An exception of the code's own, syntax errors counted in.
    Exception,
    /// More time than [`ReplLimits::time`].
    Time,
    /// More memory than [`ReplLimits::memory`].
    Memory,
    /// Deeper calls than [`ReplLimits::recursion`].
    Recursion,
    /// More host calls than [`ReplLimits::calls`].
    Calls,
    /// Something that the sandbox forbids: files, network, the operating system, an import.
    Forbidden,
    /// The host called the block off.
    Cancelled,
    /// The process that ran the code ended; the session was restored or begun anew, as `stderr` says.
    Lost,
}

/// What a block of code may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplLimits {
    /// Time of a block without that of the host's calls. Default: 30 s.
    pub time: Duration,
    /// Bytes that its process may hold above those that it started with. Default: 512 MiB.
    pub memory: usize,
    /// Depth of calls. Default: 200.
    pub recursion: usize,
    /// Characters of output that are kept of a block. Default: 20,000.
    pub output_chars: usize,
    /// Host calls of a block; each prompt of a batch counts. Default: 1,000.
    pub calls: usize,
    /// Characters of each variable in [`Executed::locals`]. Default: 200.
    pub local_chars: usize,
    /// Variables in [`Executed::locals`]. Default: 100.
    pub locals: usize,
}

impl Default for ReplLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30),
            memory: 512 << 20,
            recursion: 200,
            output_chars: 20_000,
            calls: 1_000,
            local_chars: 200,
            locals: 100,
        }
    }
}
