//! The host's half of a session: it asks, waits as long as the limits say, and brings the session back after a fault.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use super::names::{check_limits, check_name, is_name};
use super::process::{Process, Silence};
use super::protocol::{Event, MAX_MESSAGE, Request, State};
use super::{AnswerCell, Executed, Fault, HostCall, ReplHost, ReplLimits};
use crate::{Error, Result};

/// Time for what is not an orchestrator's code: to start, to take a text, to look at the variables.
const SERVICE_TIME: Duration = Duration::from_secs(30);
/// Time that a process has to notice by itself that a block took too long.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of a snapshot beyond those of the session's memory.
const SNAPSHOT_ROOM: u64 = 16 << 20;
/// Bytes of a block of code.
const MAX_CODE: usize = 8 << 20;

/// What differs between the kinds of sessions.
pub(crate) trait Launch {
    const KIND: &'static str;
    /// Whether sessions hand out snapshots. They go back to the last one after a fault that leaves them undefined.
    const SNAPSHOTS: bool;

    fn command(&self) -> Result<Command>;
}

/// A session and the process that runs it now.
#[derive(Debug)]
pub(crate) struct Session<L> {
    launch: L,
    limits: ReplLimits,
    process: Option<Process>,
    /// Texts that were set, of which those in `unsaved` are in no snapshot.
    texts: BTreeMap<String, String>,
    unsaved: Vec<String>,
    snapshot: Option<Snapshot>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    names: Vec<String>,
    bytes: Vec<u8>,
    /// Whether blocks ran since that were too large for a snapshot of their own.
    outdated: bool,
}

/// What a new process has of a session.
#[derive(Debug)]
struct Left {
    /// Whether that is everything.
    all: bool,
    text: String,
}

type Heard<T> = std::result::Result<T, Silence>;

impl<L: Launch> Session<L> {
    pub(crate) fn start(launch: L, limits: ReplLimits) -> Result<Self> {
        check_limits(&limits)?;
        let (texts, unsaved) = (BTreeMap::new(), Vec::new());
        let mut session = Self { launch, limits, process: None, texts, unsaved, snapshot: None };
        session.revive()?;
        Ok(session)
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    pub(crate) fn set_text(&mut self, name: &str, text: &str) -> Result<()> {
        check_name(name)?;
        if text.len() > (MAX_MESSAGE / 2).min(self.limits.memory / 2) {
            let value = format!("{} bytes", text.len());
            return Err(Error::config(
                "text",
                value,
                "must be at most 32 MiB and half of the session's memory",
            ));
        }
        self.alive()?;
        self.texts.insert(name.to_owned(), text.to_owned());
        if !self.unsaved.iter().any(|known| known == name) {
            self.unsaved.push(name.to_owned());
        }
        // A process that is lost here gets the text with the others when it is begun anew.
        if self.put_text(name).is_err() {
            self.revive().inspect_err(|_| drop(self.texts.remove(name)))?;
        }
        Ok(())
    }

    pub(crate) fn variable(&mut self, name: &str) -> Result<Option<String>> {
        if !is_name(name) {
            return Ok(None);
        }
        for _ in 0..2 {
            self.alive()?;
            if let Ok(Event::Variable { text }) = self.ask(&Request::Variable { name: name.to_owned() }) {
                return Ok(text);
            }
            self.process = None;
        }
        Err(failed::<L>(format!("cannot show the variable {name}")))
    }

    pub(crate) fn execute(&mut self, code: &str, host: &mut dyn ReplHost) -> Result<Executed> {
        let mut block = Block::default();
        if host.cancelled() {
            block.executed.fail(Fault::Cancelled, "Cancelled: the block was called off before it began");
        } else if code.len() > MAX_CODE {
            block.executed.fail(Fault::Exception, "SyntaxError: the block is longer than 8 MiB");
        }
        if let Some(left) = self.alive()? {
            block.executed.say(&format!("The process of the session had ended: {left}."));
        }
        if block.executed.fault.is_some() {
            block.executed.take(self.look()?);
            return Ok(block.executed);
        }
        let heard = match self.process.as_mut() {
            Some(process) => block.run(process, code, &self.limits, host),
            None => Err(Silence::Lost("is gone".to_owned())),
        };
        let usable = !L::SNAPSHOTS || !matches!(block.executed.fault, Some(Fault::Time | Fault::Memory));
        match heard {
            Ok(()) if usable => match self.settle() {
                Ok(state) => block.executed.take(state),
                Err(silence) => self.recover(&mut block, Some(silence))?,
            },
            heard => self.recover(&mut block, heard.err())?,
        }
        Ok(block.finish())
    }

    /// What the session holds after a block, with the snapshot for the next one.
    fn settle(&mut self) -> Heard<State> {
        let process = self.process.as_mut().ok_or(Silence::Late)?;
        let Event::State(mut state) = process.event(SERVICE_TIME, &|| false)? else {
            return Err(Silence::Lost("does not keep to the protocol".to_owned()));
        };
        if state.snapshot {
            let bytes = process.bytes(SERVICE_TIME, &|| false)?;
            self.snapshot =
                Some(Snapshot { names: std::mem::take(&mut state.names), bytes, outdated: false });
            self.unsaved.clear();
        } else if let Some(snapshot) = &mut self.snapshot {
            snapshot.outdated = true;
        }
        Ok(state)
    }

    /// Begins again after a block that left nothing to go on with.
    fn recover(&mut self, block: &mut Block, silence: Option<Silence>) -> Result<()> {
        if let Some(silence) = silence {
            let (fault, what) = self.blame(silence);
            // A block that had ended with a fault keeps it.
            block.executed.fail(block.executed.fault.unwrap_or(fault), &what);
        }
        let left = self.revive()?;
        block.executed.say(&format!("({})", left.text));
        block.executed.take(self.look()?);
        Ok(())
    }

    /// What to tell the author of a block that no answer came to.
    fn blame(&self, silence: Silence) -> (Fault, String) {
        match silence {
            Silence::Late => {
                (Fault::Time, format!("TimeoutError: the block took longer than {:?}", self.limits.time))
            }
            Silence::Cancelled => (Fault::Cancelled, "Cancelled: the block was called off".to_owned()),
            Silence::Lost(how) if how.contains("memory allocation of") => (
                Fault::Memory,
                format!("MemoryError: the block used more than {}", mebibytes(self.limits.memory)),
            ),
            Silence::Lost(how) => (Fault::Lost, format!("The process that ran the block {how}")),
        }
    }

    fn look(&mut self) -> Result<State> {
        match self.ask(&Request::Look) {
            Ok(Event::State(state)) => Ok(state),
            Ok(_) => Err(failed::<L>("does not keep to the protocol")),
            Err(silence) => Err(failed::<L>(said(silence))),
        }
    }

    /// Makes sure that there is a process; says what is left of the variables where a new one has not all of them.
    fn alive(&mut self) -> Result<Option<String>> {
        if self.process.as_mut().is_some_and(|process| !process.has_ended()) {
            return Ok(None);
        }
        let left = self.revive()?;
        Ok((!left.all).then_some(left.text))
    }

    /// A new process with what is known of the session's variables.
    fn revive(&mut self) -> Result<Left> {
        // The old process's memory is free before the new one takes any.
        self.process = None;
        let all = |all, text: &str| Left { all, text: text.to_owned() };
        let outdated = self.snapshot.as_ref().map(|snapshot| snapshot.outdated);
        if let Some(outdated) = outdated
            && self.begin().is_ok()
            && self.restore().is_ok()
        {
            return Ok(if outdated {
                all(false, "variables are as they were some blocks before it, when they were fewer")
            } else {
                all(true, "variables are as they were before it")
            });
        }
        self.process = None;
        self.snapshot = None;
        self.begin()?;
        let names: Vec<String> = self.texts.keys().cloned().collect();
        for name in &names {
            self.put_text(name).map_err(|silence| failed::<L>(said(silence)))?;
        }
        // Before the first snapshot there are only texts.
        Ok(if outdated.is_none() && L::SNAPSHOTS {
            all(true, "variables are as they were before it")
        } else if names.is_empty() {
            all(false, "the session was begun anew, without variables")
        } else {
            all(
                false,
                &format!("the session was begun anew; of its variables it has only {}", names.join(", ")),
            )
        })
    }

    fn begin(&mut self) -> Result<()> {
        let command = self.launch.command()?;
        let program = command.get_program().display().to_string();
        let max_bytes = self.limits.memory as u64 + SNAPSHOT_ROOM;
        let process = Process::spawn(command, max_bytes)
            .map_err(|error| failed::<L>(format!("cannot start {program}: {error}")))?;
        self.process = Some(process);
        let ready = self.ask(&Request::Start(self.limits));
        match ready {
            Ok(Event::Ready) => Ok(()),
            Ok(_) => Err(failed::<L>("does not keep to the protocol")),
            Err(silence) => Err(failed::<L>(said(silence))),
        }
        .inspect_err(|_| self.process = None)
    }

    fn restore(&mut self) -> Heard<()> {
        let (Some(process), Some(snapshot)) = (self.process.as_mut(), &self.snapshot) else {
            return Err(Silence::Late);
        };
        process.send(&Request::Restore { names: snapshot.names.clone() });
        process.send_bytes(snapshot.bytes.clone());
        let Event::Done = process.event(SERVICE_TIME, &|| false)? else { return Err(Silence::Late) };
        for name in self.unsaved.clone() {
            self.put_text(&name)?;
        }
        Ok(())
    }

    fn put_text(&mut self, name: &str) -> Heard<()> {
        let Some(text) = self.texts.get(name) else { return Ok(()) };
        let request = Request::SetText { name: name.to_owned(), text: text.clone() };
        match self.ask(&request)? {
            Event::Done => Ok(()),
            _ => Err(Silence::Lost("does not keep to the protocol".to_owned())),
        }
    }

    fn ask(&mut self, request: &Request) -> Heard<Event> {
        let process = self.process.as_mut().ok_or_else(|| Silence::Lost("is gone".to_owned()))?;
        if !process.send(request) {
            return Err(Silence::Lost("cannot take so long a text".to_owned()));
        }
        process.event(SERVICE_TIME, &|| false)
    }
}

/// A block under way.
#[derive(Debug, Default)]
struct Block {
    executed: Executed,
    answered: Option<String>,
}

impl Block {
    /// Runs the block to its end, its host calls answered. The clock stands still meanwhile.
    fn run(
        &mut self,
        process: &mut Process,
        code: &str,
        limits: &ReplLimits,
        host: &mut dyn ReplHost,
    ) -> Heard<()> {
        process.send(&Request::Execute { code: code.to_owned() });
        // Told to stop, it says what it did up to then.
        let mut stopped = false;
        loop {
            let left = (limits.time + GRACE).saturating_sub(self.executed.elapsed);
            // A process that always has something to say is no reason to listen for ever.
            if left.is_zero() {
                return Err(Silence::Late);
            }
            if host.cancelled() && !stopped {
                return Err(Silence::Cancelled);
            }
            let waiting = Instant::now();
            let event = process.event(left, &|| host.cancelled());
            self.executed.elapsed += waiting.elapsed();
            match event? {
                Event::Call(call) => {
                    let reply = self.call(call, limits.calls, host);
                    stopped = matches!(reply, Request::Stop { .. });
                    process.send(&reply)
                }
                Event::Answer { content } => {
                    self.answered.get_or_insert(content);
                    true
                }
                Event::Ran { stdout, stderr, fault, seconds } => {
                    (self.executed.stdout, self.executed.fault) = (stdout, fault);
                    self.executed.say(&stderr);
                    self.executed.elapsed =
                        Duration::try_from_secs_f64(seconds).unwrap_or(self.executed.elapsed);
                    return Ok(());
                }
                _ => return Err(Silence::Lost("does not keep to the protocol".to_owned())),
            };
        }
    }

    fn call(&mut self, call: HostCall, limit: usize, host: &mut dyn ReplHost) -> Request {
        let wanted = match &call {
            HostCall::Llm(queries) | HostCall::Rlm(queries) => queries.len(),
            HostCall::Note { .. } => 1,
        };
        // One without prompts is one, too.
        if self.executed.calls.saturating_add(wanted.max(1)) > limit {
            let reason = format!("CallLimit: a block may make {limit} calls");
            return Request::Stop { fault: Fault::Calls, reason };
        }
        self.executed.calls += wanted.max(1);
        let mut texts = host.call(call);
        if host.cancelled() {
            let reason = "Cancelled: the block was called off during a call".to_owned();
            return Request::Stop { fault: Fault::Cancelled, reason };
        }
        texts.resize_with(wanted, || "Error: no answer came".to_owned());
        let bytes: usize = texts.iter().map(String::len).sum();
        if bytes > MAX_MESSAGE / 8 {
            texts.fill(format!(
                "Error: the answer has {bytes} bytes, more than the 8 MiB that a call may bring"
            ));
        }
        Request::Reply { texts }
    }

    fn finish(mut self) -> Executed {
        if let Some(content) = self.answered {
            self.executed.answer = AnswerCell { content, ready: true };
        }
        self.executed
    }
}

impl Executed {
    fn take(&mut self, state: State) {
        (self.locals, self.answer) = (state.locals, state.answer);
        self.say(&state.note);
    }

    fn fail(&mut self, fault: Fault, what: &str) {
        self.fault = Some(fault);
        self.say(what);
    }

    /// Adds a line to `stderr`; what stands in brackets stays on the line before.
    fn say(&mut self, what: &str) {
        if !self.stderr.is_empty() && !what.is_empty() {
            self.stderr.push(if what.starts_with('(') { ' ' } else { '\n' });
        }
        self.stderr.push_str(what);
    }
}

/// A number of bytes as a person would say it.
pub(crate) fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes >> 20)
}

fn said(silence: Silence) -> String {
    match silence {
        Silence::Late => format!("did not answer within {SERVICE_TIME:?}"),
        Silence::Cancelled => "was called off".to_owned(),
        Silence::Lost(how) => how,
    }
}

fn failed<L: Launch>(reason: impl Into<String>) -> Error {
    Error::Repl { kind: L::KIND, reason: reason.into() }
}
