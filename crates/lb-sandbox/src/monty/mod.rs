//! The sandbox that is the default: `monty`, an interpreter of a part of Python, in a process of its own.

mod calls;
mod find;
mod hints;
mod idioms;
mod inspect;
mod interpreter;
mod memory;
mod serve;
mod source;
mod wire;

use std::path::PathBuf;
use std::process::Command;

use super::session::{Launch, Session};
use super::{Executed, Repl, ReplHost, ReplLimits};
use crate::Result;

pub use find::sandbox_main;

pub(crate) const KIND: &str = "monty";

/// How a [`MontyRepl`] is set up.
#[derive(Clone, Debug, Default)]
pub struct MontyConfig {
    /// The program `lb-repl`, or another that calls [`sandbox_main`] first. `None`: this program itself where it called
    /// [`sandbox_main`], else `lb-repl` beside it.
    pub worker: Option<PathBuf>,
    /// What a block may use up.
    pub limits: ReplLimits,
}

/// A session of the interpreter `monty` in a small process of its own.
///
/// The interpreter knows no files, network, processes, clock or environment; each of its attempts to leave comes to the
/// process as a question and is refused. The process has an empty environment, a process group of its own, no open
/// files but its pipes, and on Linux limits that it set itself before any code came: no files to open or write, no
/// processes, memory, no new privileges, and (on x86-64, AArch64 and RISC-V) a list of the few system calls that
/// computing needs. It ends when the session is dropped; when its host dies Linux ends it, elsewhere its pipe does.
///
/// - **Variables** live from block to block. After each block the host takes a snapshot. Where a block runs out of time
///   or memory, is called off, or the process dies, a new process takes that snapshot up: variables are as they were
///   before the block, and `stderr` says so. After every other fault they are what the code made of them.
/// - **`answer`**: its content is taken right after the statement that sets `answer["ready"]` (or assigns `answer`, or
///   calls one of its methods), wherever that statement stands, and reaches the host before the next one runs, so
///   that not even a block that is killed later can lose it. Where the dictionary is changed under another name, it is
///   looked at when the block has ended. The rest of the block runs.
/// - **Memory** is that of the process above what it took to start, looked at every 4 ms on Linux; what is asked for at
///   once is checked before it is given. Elsewhere only the latter. The kernel ends the process at about twice the limit.
#[derive(Debug)]
pub struct MontyRepl {
    session: Session<Monty>,
}

#[derive(Debug)]
struct Monty {
    worker: Option<PathBuf>,
}

impl Launch for Monty {
    const KIND: &'static str = KIND;
    const SNAPSHOTS: bool = true;

    fn command(&self) -> Result<Command> {
        find::command(self.worker.as_deref())
    }
}

impl MontyRepl {
    /// Starts a session.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for limits that cannot be, [`Error::Repl`](crate::Error::Repl) where the
    /// process cannot be found or does not start.
    pub fn start(config: &MontyConfig) -> Result<Self> {
        let launch = Monty { worker: config.worker.clone() };
        Ok(Self { session: Session::start(launch, config.limits)? })
    }

    /// The id of the process that runs the code now.
    pub fn process_id(&self) -> Option<u32> {
        self.session.process_id()
    }
}

impl Repl for MontyRepl {
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

/// What is missing was found by trying; `tests/orchestrate/repl_dialect.rs` tries each of these again.
const DIALECT: &str = "\
Your code runs in a sandbox that knows a part of Python 3: functions, lambdas, closures, decorators, comprehensions, \
generator expressions (made at once, as lists are), f-strings, str.format, try, while, with, simple classes, dataclasses. \
It has no del of a name, no yield, no match, no class inheritance (raise built-in exceptions, with one text), no \
staticmethod, classmethod or property, no import *, no complex numbers. Classes have no operator methods (__add__, __lt__, \
__len__, __getitem__, __call__). \
There is no % formatting of strings (use f-strings), no str.translate, no assignment to a slice, no | of dictionaries \
(use {**a, **b}), no function as re.sub's replacement, no print(file=...). \
A method is no value (f = d.get) but as key= of sorted, min, max and sort and as the function of map and filter; the target \
of a for loop is no d[key]; next() of a variable that holds a generator expression is next(iter(...)). \
Built-ins that are missing: callable, dir, eval, exec, format, globals, input, issubclass, locals, super, vars. \
You can import base64, binascii, collections (Counter, defaultdict, deque, namedtuple), dataclasses (dataclass), datetime \
(without now and today), functools (reduce, partial), itertools (without product, permutations, combinations, groupby, \
tee), json, math (without prod), re, sys, typing, unicodedata, and nothing else: no os, random, time, string, copy, numpy. \
llm_query and the other functions of the session cannot be called inside sorted(key=...), min, max, map, filter or \
__str__: use a loop or a comprehension. Nothing can be awaited. \
There are no files, no network, no clock and no system. \
Only what you print() is shown, and of an exception only the last line.";
