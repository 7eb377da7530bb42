//! A process that runs code, seen from the host: it may hang, flood, write anything and die at any time.

use std::io::{BufReader, BufWriter, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::protocol::{Event, Frame, Request, encode, read_frame, write_frame};

/// How often a waiting host looks whether the block was called off.
const POLL: Duration = Duration::from_millis(20);
/// Milliseconds that a process which has closed its pipes is waited for.
const PATIENCE: usize = 200;
/// Bytes that are kept of what the process says on stderr.
const STDERR_BYTES: u64 = 4096;
/// Frames that wait for the host; the process waits when there are more.
const WAITING: usize = 4;

/// A running process and the threads that serve its pipes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    requests: Sender<Frame>,
    arrivals: Receiver<Arrival>,
    stderr: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
    /// Set once the process was waited for: its id may be another's then.
    ended: Option<ExitStatus>,
}

/// What the reading thread found.
#[derive(Debug)]
enum Arrival {
    Event(Event),
    Bytes(Vec<u8>),
    Garbage(String),
}

/// Why nothing came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The time is up.
    Late,
    /// The host called the block off.
    Cancelled,
    /// The process ended, or wrote what it should not; it is of no use any more.
    Lost(String),
}

impl Process {
    /// Starts a process with nothing of our environment, in a group of its own, in the root folder.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn spawn(mut command: Command, max_bytes: u64) -> std::io::Result<Self> {
        command.current_dir(if cfg!(unix) { "/" } else { "." });
        if let Some(root) = std::env::var_os("SystemRoot").filter(|_| cfg!(windows)) {
            // Without it Windows gives a process no random numbers, and Python does not start.
            command.env("SystemRoot", root);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = launch(command)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        let (requests, outgoing) = channel::<Frame>();
        let (incoming, arrivals) = sync_channel(WAITING);
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        // A thread for each pipe, so that a process that neither reads nor writes cannot hold the host. They end with it.
        thread::spawn(move || {
            let mut stdin = BufWriter::new(stdin);
            while outgoing.recv().is_ok_and(|frame| write_frame(&mut stdin, &frame).is_ok()) {}
        });
        thread::spawn(move || deliver(BufReader::new(stdout), &incoming, max_bytes));
        let listening = thread::spawn(move || keep_head(stderr, &kept));
        Ok(Self { child, requests, arrivals, stderr: said, listening, ended: None })
    }

    /// Sends a request; `false` where it is longer than a message may be.
    pub(crate) fn send(&self, request: &Request) -> bool {
        // A process that is gone is noticed by the one who waits for its answer.
        encode(request).map(|content| self.requests.send(Frame::Message(content))).is_some()
    }

    pub(crate) fn send_bytes(&self, bytes: Vec<u8>) {
        let _ = self.requests.send(Frame::Bytes(bytes));
    }

    /// The next event, waited for as long as `limit` and not `cancelled`.
    pub(crate) fn event(&mut self, limit: Duration, cancelled: &dyn Fn() -> bool) -> Result<Event, Silence> {
        match self.arrival(limit, cancelled)? {
            Arrival::Event(event) => Ok(event),
            Arrival::Bytes(_) => Err(Silence::Lost("wrote bytes where a message was due".to_owned())),
            Arrival::Garbage(what) => Err(Silence::Lost(what)),
        }
    }

    pub(crate) fn bytes(
        &mut self,
        limit: Duration,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>, Silence> {
        match self.arrival(limit, cancelled)? {
            Arrival::Bytes(bytes) => Ok(bytes),
            Arrival::Event(_) => Err(Silence::Lost("wrote a message where bytes were due".to_owned())),
            Arrival::Garbage(what) => Err(Silence::Lost(what)),
        }
    }

    fn arrival(&mut self, limit: Duration, cancelled: &dyn Fn() -> bool) -> Result<Arrival, Silence> {
        let started = Instant::now();
        loop {
            let left = limit.saturating_sub(started.elapsed());
            match self.arrivals.recv_timeout(left.min(POLL)) {
                Ok(arrival) => return Ok(arrival),
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Lost(self.last_words())),
                Err(RecvTimeoutError::Timeout) if cancelled() => return Err(Silence::Cancelled),
                Err(RecvTimeoutError::Timeout) if started.elapsed() >= limit => return Err(Silence::Late),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// How the process ended, with what it said on stderr.
    fn last_words(&mut self) -> String {
        let status = self.end();
        let how = status.map_or_else(|| "ended".to_owned(), describe);
        // What it said may still be on its way; a process of its own making may hold the pipe open for ever.
        for _ in 0..PATIENCE {
            if self.listening.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let said = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        if line.is_empty() { how } else { format!("{how}: {line}") }
    }

    /// Whether the process has ended, as far as is known.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process and its group and waits for it, so that neither an orphan nor a zombie stays. One that has closed
    /// its pipes is given a moment: how it ends by itself says more than our kill.
    fn end(&mut self) -> Option<ExitStatus> {
        for _ in 0..PATIENCE {
            if self.ended.is_some() {
                return self.ended;
            }
            self.ended = self.child.try_wait().ok().flatten();
            if self.ended.is_none() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.kill();
        self.ended
    }

    fn kill(&mut self) {
        if self.ended.is_some() {
            return;
        }
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a process. Linux ends it, as it asked for, not when its parent dies but when the thread that started it does:
/// that one must outlive every session.
#[cfg(target_os = "linux")]
fn launch(command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    /// The thread that starts processes, and the process that it is a thread of: a fork does not take it along.
    static LAUNCHER: Mutex<Option<(u32, Sender<Order>)>> = Mutex::new(None);

    let (answer, started) = channel();
    let mut launcher = LAUNCHER.lock().unwrap_or_else(PoisonError::into_inner);
    if launcher.as_ref().is_none_or(|(process, _)| *process != std::process::id()) {
        let (orders, taken) = channel::<Order>();
        thread::Builder::new().name("sandboxes".to_owned()).spawn(move || {
            for (mut command, answer) in taken {
                let _ = answer.send(command.spawn());
            }
        })?;
        *launcher = Some((std::process::id(), orders));
    }
    let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let (_, orders) = launcher.as_ref().ok_or_else(gone)?;
    orders.send((command, answer)).map_err(|_| gone())?;
    drop(launcher);
    started.recv().map_err(|_| gone())?
}

#[cfg(not(target_os = "linux"))]
fn launch(mut command: Command) -> std::io::Result<Child> {
    command.spawn()
}

/// Reads frames until the pipe ends, the host is gone or something else comes.
fn deliver(mut from: impl Read, to: &SyncSender<Arrival>, max_bytes: u64) {
    loop {
        let arrival = match read_frame(&mut from, max_bytes) {
            Ok(Some(Frame::Bytes(bytes))) => Arrival::Bytes(bytes),
            Ok(Some(Frame::Message(content))) => match serde_json::from_slice(&content) {
                Ok(event) => Arrival::Event(event),
                Err(error) => {
                    Arrival::Garbage(format!("wrote a message that is none of the protocol's: {error}"))
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Arrival::Garbage(format!("wrote what is not the protocol: {error}"))
            }
            Ok(None) | Err(_) => return,
        };
        let last = matches!(arrival, Arrival::Garbage(_));
        if to.send(arrival).is_err() || last {
            return;
        }
    }
}

/// Keeps the beginning of what comes and reads the rest away, so that the writer is never held up.
fn keep_head(mut from: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut piece = [0_u8; 1024];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = (STDERR_BYTES as usize).saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("was ended by signal {signal}");
    }
    status.code().map_or_else(|| "ended".to_owned(), |code| format!("ended with code {code}"))
}
