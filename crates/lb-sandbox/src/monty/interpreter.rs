//! The interpreter of one session: blocks, the calls that pause them, and the faults that end them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use monty::{
    Dump, MontyRepl as Monty, ReplFunctionCall, ReplNameLookup, ReplProgress, ReplStartError,
    Session as Dumped, SessionRef,
};
use monty_types::{
    AssertMessageAnnotations, CompileOptions, ExcType, ExtFunctionResult, MontyException, MontyObject,
    NameLookupResult, PrintWriter, PrintWriterCallback, ResourceLimits, ResourceTracker,
};

use super::calls::{self, FUNCTIONS};
use super::hints;
use super::idioms;
use super::inspect::{self, Seen};
use super::memory::MemoryMeter;
use super::source::{ANSWER_SET, MODULES, REFUSED_IMPORT, prepare};
use super::wire::{HostGone, Wire, fitting};
use crate::output::Output;
use crate::protocol::{Event, Request};
use crate::session::mebibytes;
use crate::{Fault, ReplLimits};

/// Time for a look at the variables.
const LOOK: Duration = Duration::from_secs(3);
/// Characters of an exception's line.
const LINE_CHARS: usize = 2_000;
/// Builtins of Python that lead out of a sandbox or into its inside.
const WITHHELD: [&str; 14] = [
    "__import__",
    "breakpoint",
    "compile",
    "delattr",
    "dir",
    "eval",
    "exec",
    "exit",
    "globals",
    "help",
    "input",
    "locals",
    "quit",
    "vars",
];

type Step = Result<ReplProgress, Box<ReplStartError>>;

/// The session's interpreter. It is missing after a fault that leaves it undefined.
#[derive(Debug)]
pub(super) struct Interpreter {
    monty: Option<Monty>,
    /// Names that blocks may have bound; the interpreter has no list of its variables.
    names: BTreeSet<String>,
    limits: ReplLimits,
    meter: MemoryMeter,
}

/// How a block went on its way.
#[derive(Debug, Default)]
struct Course {
    answered: bool,
    stopped: Option<(Fault, String)>,
    /// The last refusal; a block that ends with it ran into something forbidden.
    refused: Option<String>,
}

impl Interpreter {
    pub(super) fn new(limits: ReplLimits) -> Self {
        let tracker = ResourceTracker::new(
            ResourceLimits::default()
                .max_memory(limits.memory)
                .max_duration(limits.time)
                .max_recursion_depth(limits.recursion),
        );
        let options = CompileOptions { assert_message_annotations: AssertMessageAnnotations::Off };
        let mut monty = Monty::new("repl", tracker, options);
        let prelude = [inspect::PRELUDE, inspect::FINISH, idioms::HELPERS].concat();
        let begun = monty.feed_run(&prelude, Vec::new(), PrintWriter::Disabled).is_ok();
        let monty = begun.then_some(monty);
        Self { monty, names: BTreeSet::new(), limits, meter: MemoryMeter::start(limits.memory) }
    }

    /// Whether blocks can run.
    pub(super) fn is_usable(&self) -> bool {
        self.monty.is_some()
    }

    pub(super) fn set_text(&mut self, name: String, text: String) -> bool {
        let Some(mut monty) = self.monty.take() else { return false };
        self.names.insert(name.clone());
        monty.tracker_mut().set_max_duration(LOOK);
        let set =
            monty.feed_run("None", vec![(name, MontyObject::String(text))], PrintWriter::Disabled).is_ok();
        self.monty = set.then_some(monty);
        set
    }

    /// The session as bytes, with the names to look for, where it can be written.
    pub(super) fn snapshot(&self) -> Option<(Vec<String>, Vec<u8>)> {
        let bytes = monty::dump("repl", None, SessionRef::Idle(self.monty.as_ref()?)).ok()?;
        (bytes.len() <= self.limits.memory).then(|| (self.names.iter().cloned().collect(), bytes))
    }

    pub(super) fn restore(&mut self, names: Vec<String>, bytes: &[u8]) -> bool {
        let Ok(Dump { state: Dumped::Idle(monty), .. }) = Dump::load(bytes) else { return false };
        (self.monty, self.names) = (Some(*monty), names.into_iter().collect());
        true
    }

    /// What the session holds.
    pub(super) fn look(&mut self) -> Seen {
        let Some(mut monty) = self.monty.take() else { return Seen::default() };
        monty.tracker_mut().set_max_duration(LOOK);
        let _running = self.meter.running();
        let (monty, seen) = inspect::look(monty, &self.names, self.limits.local_chars);
        self.monty = monty;
        seen
    }

    /// Puts `answer` back as it was in the beginning.
    pub(super) fn reset_answer(&mut self) {
        if let Some(monty) = &mut self.monty {
            let _ = monty.feed_run(inspect::ANSWER, Vec::new(), PrintWriter::Disabled);
        }
    }

    /// `str()` of a variable.
    pub(super) fn variable(&mut self, name: &str) -> Option<String> {
        let mut monty = self.monty.take()?;
        monty.tracker_mut().set_max_duration(LOOK);
        let _running = self.meter.running();
        let (monty, text) = inspect::text(monty, name);
        self.monty = monty;
        text.map(fitting)
    }

    /// Runs a block to its end.
    pub(super) fn run(&mut self, code: &str, wire: &mut Wire) -> Result<Event, HostGone> {
        let Some(mut monty) = self.monty.take() else { return Err(HostGone) };
        let prepared = prepare(code);
        self.names.extend(prepared.names);
        monty.tracker_mut().set_max_duration(self.limits.time);
        let mut output = Printed(Output::new(self.limits.output_chars));
        let mut course = Course::default();
        let mut step = {
            let _running = self.meter.running();
            monty.feed_start(&prepared.code, Vec::new(), PrintWriter::Callback(&mut output))
        };
        let (monty, error) = loop {
            step = match step {
                Ok(ReplProgress::Complete { repl, .. }) => break (repl, None),
                Err(failure) => break (failure.repl, Some(failure.error)),
                Ok(progress) => {
                    let reply = self.reply(&progress, wire, &mut course)?;
                    let _running = self.meter.running();
                    resume(progress, reply, PrintWriter::Callback(&mut output))
                }
            };
        };
        let seconds = monty.tracker().elapsed().as_secs_f64();
        let (fault, stderr) = match error {
            None => (None, String::new()),
            Some(error) => self.judge(&error, course),
        };
        // After these the interpreter's objects may be in any state.
        if !matches!(fault, Some(Fault::Time | Fault::Memory)) {
            self.monty = Some(monty);
        }
        Ok(Event::Ran { stdout: output.0.finish(), stderr, fault, seconds })
    }

    /// What a pause of the code is to go on with.
    fn reply(
        &self,
        progress: &ReplProgress,
        wire: &mut Wire,
        course: &mut Course,
    ) -> Result<Reply, HostGone> {
        match progress {
            ReplProgress::FunctionCall(call) => match call.function_name.as_str() {
                ANSWER_SET => {
                    let cell = call.args.first().and_then(inspect::answer_cell).unwrap_or_default();
                    if cell.ready && !course.answered {
                        course.answered = true;
                        wire.send(&Event::Answer { content: fitting(cell.content) })?;
                    }
                    Ok(Reply::Return(MontyObject::None))
                }
                REFUSED_IMPORT => Ok(course.refuse(ExcType::ModuleNotFoundError, refused_import(call))),
                "SHOW_VARS" => Ok(Reply::Return(MontyObject::String(self.show(progress)))),
                "FINAL_VAR" => Ok(Reply::Return(self.shown(progress, call.args.first()))),
                name if FUNCTIONS.contains(&name) => ask(call, wire, course),
                name => Ok(course.unknown(name)),
            },
            ReplProgress::NameLookup(lookup) => Ok(course.look_up(lookup)),
            ReplProgress::OsCall(call) => {
                let what =
                    format!("{}: there are no files, no clock and no system here", call.function_call.name());
                Ok(course.refuse(ExcType::PermissionError, what))
            }
            ReplProgress::ResolveFutures(_) | ReplProgress::Complete { .. } => {
                Ok(Reply::Abort(MontyException::new(
                    ExcType::RuntimeError,
                    Some("nothing here runs beside the code, so nothing can be awaited".to_owned()),
                )))
            }
        }
    }

    /// What kind of end it was, and the line that says so.
    fn judge(&self, error: &MontyException, course: Course) -> (Option<Fault>, String) {
        if let Some((fault, reason)) = course.stopped {
            return (Some(fault), reason);
        }
        let message = error.message().unwrap_or_default();
        let (fault, line) = match error.exc_type() {
            ExcType::MemoryError if message.starts_with("memory limit exceeded") => {
                return (Some(Fault::Memory), memory_line(&self.limits));
            }
            ExcType::TimeoutError if message.starts_with("time limit exceeded") => {
                return (Some(Fault::Time), time_line(&self.limits));
            }
            ExcType::RecursionError => (
                Fault::Recursion,
                format!("{}, which is {} calls here", error.summary(), self.limits.recursion),
            ),
            _ if course.refused.is_some_and(|refused| refused == message) => {
                (Fault::Forbidden, error.summary())
            }
            _ => (Fault::Exception, error.summary()),
        };
        let line = line.replace(
            "The monty syntax parser does not yet support",
            "the Python of this sandbox does not know",
        );
        let mut line: String = line.replace('\n', " ").chars().take(LINE_CHARS).collect();
        let block = error.traceback().first().map(|frame| frame.filename.clone());
        if let Some(frame) =
            error.traceback().iter().rev().find(|frame| Some(&frame.filename) == block.as_ref())
        {
            let _ = write!(line, " (line {})", frame.start.line);
        }
        if let Some(hint) = hints::hint(&line) {
            let _ = write!(line, "; {hint}");
        }
        (Some(fault), line)
    }

    /// One line for each variable.
    fn show(&self, progress: &ReplProgress) -> String {
        let Some(copy) = copy(progress) else { return "Error: the variables cannot be shown".to_owned() };
        let (_, seen) = inspect::look(copy, &self.names, 0);
        let lines: Vec<String> = seen.variables.iter().map(|v| format!("{}: {}", v.name, v.kind)).collect();
        if lines.is_empty() { "no variables yet".to_owned() } else { lines.join("\n") }
    }

    /// `FINAL_VAR("name")`, and `FINAL_VAR(value)` as well.
    fn shown(&self, progress: &ReplProgress, arg: Option<&MontyObject>) -> MontyObject {
        MontyObject::String(match arg {
            None => "Error: FINAL_VAR: the name is missing".to_owned(),
            Some(MontyObject::String(name)) if self.names.contains(name) => copy(progress)
                .and_then(|copy| inspect::text(copy, name).1)
                .unwrap_or_else(|| format!("Error: there is no variable '{name}'")),
            Some(MontyObject::String(name)) => format!("Error: there is no variable '{name}'"),
            Some(value) => value.to_string(),
        })
    }
}

/// What a pause is answered with.
#[derive(Debug)]
enum Reply {
    Return(MontyObject),
    Raise(MontyException),
    /// Ends the block; the code cannot catch it.
    Abort(MontyException),
    Undefined,
}

fn resume(progress: ReplProgress, reply: Reply, print: PrintWriter<'_>) -> Step {
    match (progress, reply) {
        (ReplProgress::FunctionCall(call), Reply::Abort(exception)) => call.abort(exception, print),
        (ReplProgress::FunctionCall(call), Reply::Return(value)) => call.resume(value, print),
        (ReplProgress::FunctionCall(call), Reply::Raise(exception)) => call.resume(exception, print),
        (ReplProgress::FunctionCall(call), Reply::Undefined) => {
            let name = call.function_name.clone();
            call.resume(ExtFunctionResult::NotFound(name), print)
        }
        (ReplProgress::NameLookup(lookup), Reply::Return(value)) => lookup.resume(value.into(), print),
        (ReplProgress::NameLookup(lookup), Reply::Raise(exception) | Reply::Abort(exception)) => {
            lookup.resume(exception.into(), print)
        }
        (ReplProgress::NameLookup(lookup), Reply::Undefined) => {
            lookup.resume(NameLookupResult::Undefined, print)
        }
        (ReplProgress::OsCall(call), Reply::Raise(exception)) => call.resume(exception, print),
        (ReplProgress::OsCall(call), _) => {
            let exception = call.function_call.on_no_handler();
            call.abort(exception, print)
        }
        (ReplProgress::ResolveFutures(state), Reply::Abort(exception) | Reply::Raise(exception)) => {
            state.abort(exception, print)
        }
        (ReplProgress::ResolveFutures(state), _) => {
            state.abort(MontyException::runtime_error("nothing can be awaited here"), print)
        }
        (done @ ReplProgress::Complete { .. }, _) => Ok(done),
    }
}

impl Course {
    fn refuse(&mut self, kind: ExcType, what: String) -> Reply {
        self.refused = Some(what.clone());
        Reply::Raise(MontyException::new(kind, Some(what)))
    }

    fn unknown(&mut self, name: &str) -> Reply {
        if WITHHELD.contains(&name) {
            return self.refuse(
                ExcType::NameError,
                format!("name '{name}' is not defined: the sandbox has no {name}()"),
            );
        }
        Reply::Undefined
    }

    fn look_up(&mut self, lookup: &ReplNameLookup) -> Reply {
        let name = lookup.name.as_str();
        if FUNCTIONS.contains(&name) || ["SHOW_VARS", "FINAL_VAR"].contains(&name) {
            return Reply::Return(MontyObject::Function { name: name.to_owned(), docstring: None });
        }
        self.unknown(name)
    }
}

/// Asks the host, and waits.
fn ask(call: &ReplFunctionCall, wire: &mut Wire, course: &mut Course) -> Result<Reply, HostGone> {
    let error = |what: String| Ok(Reply::Return(MontyObject::String(format!("Error: {what}"))));
    let wanted = match calls::read(&call.function_name, call.args.clone(), call.kwargs.clone()) {
        Ok(wanted) if wanted.is_empty() => return Ok(Reply::Return(calls::answer(&wanted, Vec::new()))),
        Ok(wanted) => wanted,
        Err(what) => return error(what),
    };
    if !wire.send(&Event::Call(wanted.call().clone()))? {
        return error(format!("{}: the arguments are longer than 64 MiB", call.function_name));
    }
    match wire.request()? {
        Request::Reply { texts } => Ok(Reply::Return(calls::answer(&wanted, texts))),
        Request::Stop { fault, reason } => {
            course.stopped = Some((fault, reason.clone()));
            Ok(Reply::Abort(MontyException::new(ExcType::KeyboardInterrupt, Some(reason))))
        }
        _ => Err(HostGone),
    }
}

/// The session of a paused block as it is at the pause, apart from the session itself.
fn copy(progress: &ReplProgress) -> Option<Monty> {
    let bytes = monty::dump("repl", None, SessionRef::Suspended(progress)).ok()?;
    let Ok(Dump { state: Dumped::Suspended(paused), .. }) = Dump::load(&bytes) else { return None };
    let mut monty = paused.into_repl();
    monty.tracker_mut().set_max_duration(LOOK);
    Some(monty)
}

fn refused_import(call: &ReplFunctionCall) -> String {
    let module = call.args.first().map(ToString::to_string).unwrap_or_default();
    format!("'{module}' cannot be imported here; what can: {}", MODULES.join(", "))
}

fn memory_line(limits: &ReplLimits) -> String {
    format!("MemoryError: the block used more than {}", mebibytes(limits.memory))
}

fn time_line(limits: &ReplLimits) -> String {
    format!("TimeoutError: the block took longer than {:?}", limits.time)
}

/// `print()` of the code.
#[derive(Debug)]
struct Printed(Output);

impl PrintWriterCallback for Printed {
    fn stdout_write(&mut self, output: Cow<'_, str>) -> Result<(), MontyException> {
        self.0.push(&output);
        Ok(())
    }

    fn stdout_push(&mut self, end: char) -> Result<(), MontyException> {
        self.0.push(end.encode_utf8(&mut [0; 4]));
        Ok(())
    }
}
