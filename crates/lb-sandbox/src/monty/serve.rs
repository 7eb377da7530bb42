//! The process that runs code: it takes requests until its host is gone.

use std::sync::mpsc::channel;

use super::interpreter::Interpreter;
use super::wire::{HostGone, Wire, fitting};
use crate::protocol::{Event, Request, State, read_frame};
use crate::{ReplLimits, confine};

/// Stack of the interpreter's thread. Code nested as deep as its parser takes it fits.
const STACK: usize = 256 << 20;

/// What the author of a block is told that has bound `answer` to a text.
const ANSWER_IS_TEXT: &str =
    "answer is a str; to finish with it: answer = {\"content\": answer, \"ready\": True}";
/// What the author of a block is told that has bound `answer` to something else.
const ANSWER_AGAIN: &str =
    "answer was no dictionary any more; it is one again, with \"content\" and \"ready\"";

/// Serves stdin and stdout, then ends the process.
pub(super) fn serve() -> ! {
    confine::detach();
    let (to_session, from_host) = channel();
    let session = std::thread::Builder::new().name("session".to_owned()).stack_size(STACK).spawn(move || {
        // The host learns from our end that something went wrong.
        let code = match converse(Wire::new(from_host)) {
            Ok(()) | Err(HostGone) => 0,
        };
        std::process::exit(code);
    });
    if session.is_err() {
        std::process::exit(1);
    }
    // This thread reads, so that the end of the host is noticed while code runs.
    let mut stdin = std::io::stdin().lock();
    while let Ok(Some(frame)) = read_frame(&mut stdin, u64::MAX) {
        if to_session.send(frame).is_err() {
            break;
        }
    }
    drop(to_session);
    std::process::exit(0);
}

fn converse(mut wire: Wire) -> Result<(), HostGone> {
    let Request::Start(limits) = wire.request()? else { return Err(HostGone) };
    let mut interpreter = Interpreter::new(limits);
    // Threads and files that a session needs are there now.
    confine::only_compute();
    wire.send(&Event::Ready)?;
    while interpreter.is_usable() {
        match wire.request()? {
            Request::SetText { name, text } => {
                if !interpreter.set_text(name, text) {
                    return Err(HostGone);
                }
                wire.send(&Event::Done)?;
            }
            Request::Restore { names } => {
                if !interpreter.restore(names, &wire.bytes()?) {
                    return Err(HostGone);
                }
                wire.send(&Event::Done)?;
            }
            Request::Variable { name } => {
                // A look that leaves the session undefined ends it here; the host begins it again.
                let snapshot = interpreter.snapshot();
                let text = interpreter.variable(&name);
                let text = text.or_else(|| {
                    (!interpreter.is_usable())
                        .then(|| format!("Error: str({name}) takes more than a look may"))
                });
                wire.send(&Event::Variable { text })?;
                if let (false, Some((names, bytes))) = (interpreter.is_usable(), snapshot) {
                    interpreter.restore(names, &bytes);
                }
            }
            Request::Execute { code } => {
                let ran = interpreter.run(&code, &mut wire)?;
                wire.send(&ran)?;
                if interpreter.is_usable() {
                    settle(&mut interpreter, &limits, &mut wire, true)?;
                }
            }
            Request::Look => settle(&mut interpreter, &limits, &mut wire, false)?,
            Request::Start(_) | Request::Reply { .. } | Request::Stop { .. } => return Err(HostGone),
        }
    }
    Ok(())
}

/// Sends what the session holds, and where it is wanted the bytes that it can be restored from.
fn settle(
    interpreter: &mut Interpreter,
    limits: &ReplLimits,
    wire: &mut Wire,
    keep: bool,
) -> Result<(), HostGone> {
    let mut snapshot = interpreter.snapshot();
    let seen = interpreter.look();
    if let (false, Some((names, bytes))) = (interpreter.is_usable(), &snapshot) {
        interpreter.restore(names.clone(), bytes);
    }
    let mut state = State::default();
    if seen.is_text {
        state.note.push_str(ANSWER_IS_TEXT);
    }
    match seen.answer {
        Some(answer) => state.answer = answer,
        None if interpreter.is_usable() => {
            interpreter.reset_answer();
            snapshot = interpreter.snapshot();
            state.note.push_str(ANSWER_AGAIN);
        }
        None => {}
    }
    state.answer.content = fitting(state.answer.content);
    state.locals = seen.variables.into_iter().take(limits.locals).map(|v| (v.name, v.text)).collect();
    let Some((names, bytes)) = snapshot.filter(|_| keep) else {
        if keep {
            state.note += "the variables are too many to be kept: a block that fails may lose them";
        }
        return wire.send(&Event::State(state)).map(drop);
    };
    (state.names, state.snapshot) = (names, true);
    wire.send(&Event::State(state))?;
    wire.send_bytes(bytes)
}
