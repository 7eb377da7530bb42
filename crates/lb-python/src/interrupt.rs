//! Long calls: computed on a thread of their own, while the caller's lets other Python code run, hears signals and tells what
//! happens.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use lb_session::CancelToken;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors;

/// How long Ctrl-C waits to be heard.
const POLL: Duration = Duration::from_millis(20);
/// Of the thread that computes: what the main thread of a program has.
const STACK: usize = 8 << 20;

/// What a computation tells its caller.
pub(crate) enum Event {
    /// So much is done, of so much.
    Progress(usize, usize),
    /// Of the answer with this number a piece has come.
    Text(usize, String),
    /// The next turn is wanted: role and content of each message so far.
    Turn(Vec<(String, String)>),
    /// Something has happened, as JSON.
    Told(String),
}

/// What the caller says to that.
pub(crate) enum Reply {
    /// Whether to go on.
    GoOn(bool),
    /// The turn.
    Text(String),
    /// The caller's code has failed, and the call with it.
    Failed,
}

/// An event, and where its answer goes.
type Asked = (Event, SyncSender<Reply>);

/// What a computation has of its caller.
pub(crate) struct Link {
    /// Set when the call is no longer wanted.
    pub(crate) cancel: CancelToken,
    ask: Option<Sender<Asked>>,
}

impl Link {
    /// Whether the call is still wanted.
    pub(crate) fn goes_on(&self) -> bool {
        !self.cancel.is_cancelled()
    }

    /// Says how far it is, and hears whether to go on.
    pub(crate) fn progress(&self, done: usize, all: usize) -> bool {
        self.goes_on() && !matches!(self.ask(Event::Progress(done, all)), Reply::GoOn(false) | Reply::Failed)
    }

    /// Asks the caller, where it listens.
    pub(crate) fn ask(&self, event: Event) -> Reply {
        let Some(ask) = &self.ask else { return Reply::GoOn(true) };
        let (reply, heard) = sync_channel(1);
        if ask.send((event, reply)).is_err() {
            return Reply::Failed;
        }
        heard.recv().unwrap_or(Reply::Failed)
    }
}

/// Who listens while something is computed.
#[derive(Default)]
pub(crate) struct Listeners<'a, 'py> {
    pub(crate) progress: Option<&'a Bound<'py, PyAny>>,
    pub(crate) text: Option<&'a Bound<'py, PyAny>>,
    pub(crate) turn: Option<&'a Bound<'py, PyAny>>,
    pub(crate) told: Option<&'a Bound<'py, PyAny>>,
    /// Whether pieces of answers are told with the number of their task.
    pub(crate) numbered: bool,
}

/// The same, apart from the interpreter.
struct Ears {
    progress: Option<Py<PyAny>>,
    text: Option<Py<PyAny>>,
    turn: Option<Py<PyAny>>,
    told: Option<Py<PyAny>>,
    numbered: bool,
}

impl Ears {
    fn hear(&self, py: Python<'_>, event: Event) -> PyResult<Reply> {
        // Nothing that is returned means yes.
        let agreed = |said: Py<PyAny>| -> PyResult<Reply> {
            let said = said.bind(py);
            Ok(Reply::GoOn(said.is_none() || said.is_truthy()?))
        };
        match (event, self) {
            (Event::Progress(done, all), Self { progress: Some(ear), .. }) => {
                agreed(ear.call1(py, (done, all))?)
            }
            (Event::Text(number, text), Self { text: Some(ear), numbered: true, .. }) => {
                agreed(ear.call1(py, (number, text))?)
            }
            (Event::Text(_, text), Self { text: Some(ear), .. }) => agreed(ear.call1(py, (text,))?),
            (Event::Turn(messages), Self { turn: Some(ear), .. }) => {
                let message = |(role, content): (String, String)| -> PyResult<Py<PyDict>> {
                    let message = PyDict::new(py);
                    message.set_item("role", role)?;
                    message.set_item("content", content)?;
                    Ok(message.unbind())
                };
                let messages = messages.into_iter().map(message).collect::<PyResult<Vec<_>>>()?;
                Ok(Reply::Text(ear.call1(py, (messages,))?.extract(py)?))
            }
            (Event::Told(json), Self { told: Some(ear), .. }) => {
                let event = py.import("json")?.call_method1("loads", (json,))?;
                agreed(ear.call1(py, (event,))?)
            }
            _ => Ok(Reply::GoOn(true)),
        }
    }
}

/// Computes `job` on another thread. Python code of other threads runs meanwhile, Ctrl-C calls the job off, and so does what a
/// listener raises; that is what the caller gets then.
pub(crate) fn drive<R: Send>(
    py: Python<'_>,
    listeners: &Listeners<'_, '_>,
    job: impl FnOnce(&Link) -> R + Send,
) -> PyResult<R> {
    let own =
        |ear: Option<&Bound<'_, PyAny>>| ear.filter(|ear| !ear.is_none()).map(|ear| ear.clone().unbind());
    let ears = Ears {
        progress: own(listeners.progress),
        text: own(listeners.text),
        turn: own(listeners.turn),
        told: own(listeners.told),
        numbered: listeners.numbered,
    };
    let listens =
        ears.progress.is_some() || ears.text.is_some() || ears.turn.is_some() || ears.told.is_some();
    let cancel = CancelToken::new();
    let (ask, asked) = channel();
    // Whatever happens, the end of the job is heard of: its end of this channel goes.
    let (alive, ended) = channel::<()>();
    let link = Link { cancel: cancel.clone(), ask: listens.then_some(ask) };
    let (own, called_off) = (&ears, &cancel);
    let (result, fault) = py.detach(move || {
        thread::scope(|scope| {
            let begun = thread::Builder::new().name("latent-briefing".to_owned()).stack_size(STACK);
            let job = begun.spawn_scoped(scope, move || {
                let _alive = alive;
                job(&link)
            });
            let job = match job {
                Ok(job) => job,
                Err(error) => return (None, Some(PyErr::from(error))),
            };
            let fault = attend(own, (listens, &asked, &ended), called_off);
            match job.join() {
                Ok(result) => (Some(result), fault),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    });
    match (result, fault) {
        (_, Some(error)) => Err(error),
        (Some(result), None) => Ok(result),
        (None, None) => Err(errors::cancelled()),
    }
}

/// Answers what the job asks, and looks after signals, until it has ended.
fn attend(
    ears: &Ears,
    (listens, asked, ended): (bool, &Receiver<Asked>, &Receiver<()>),
    cancel: &CancelToken,
) -> Option<PyErr> {
    let mut fault: Option<PyErr> = None;
    let mut failed = |error: PyErr| {
        cancel.cancel();
        fault.get_or_insert(error);
    };
    loop {
        if listens {
            match asked.recv_timeout(POLL) {
                Ok((event, reply)) => {
                    let said = if cancel.is_cancelled() {
                        Reply::Failed
                    } else {
                        Python::attach(|py| {
                            ears.hear(py, event).unwrap_or_else(|error| {
                                failed(error);
                                Reply::Failed
                            })
                        })
                    };
                    // Where nobody waits for it any more, nobody misses it.
                    let _ = reply.send(said);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return fault,
            }
        } else if !matches!(ended.recv_timeout(POLL), Err(RecvTimeoutError::Timeout)) {
            return fault;
        }
        #[allow(
            clippy::redundant_closure_for_method_calls,
            reason = "the method's lifetime is not general enough"
        )]
        if let Err(error) = Python::attach(|py| py.check_signals()) {
            failed(error);
        }
    }
}

/// The lock of `what`, waited for as long as the call is wanted.
pub(crate) fn locked<'a, T>(what: &'a Mutex<T>, link: &Link) -> Option<MutexGuard<'a, T>> {
    loop {
        match what.try_lock() {
            Ok(guard) => return Some(guard),
            // A panic has left what it worked on as it was before or after.
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) if !link.goes_on() => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The lock of `what` for a moment.
pub(crate) fn glanced<'a, T: Send>(py: Python<'_>, what: &'a Mutex<T>) -> MutexGuard<'a, T> {
    if let Ok(guard) = what.try_lock() {
        return guard;
    }
    // Who has it may want the interpreter, so wait without it. The guard itself cannot cross over.
    loop {
        py.detach(|| thread::sleep(Duration::from_millis(1)));
        match what.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(guard)) => return guard.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}
