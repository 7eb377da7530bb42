//! The one thread that computes: what waits, what is under way, and who hears of it.
//!
//! Requests come as [`Job`]s through a fair, bounded queue. One is begun at a time: its input is read, or its briefing made; then its answer
//! joins those under way, and each step writes a token of every one of them. While a long input is read, a step is made after each pass, so
//! that nobody's answer waits for somebody's document.

mod answer;
mod begin;
mod job;
mod prefix;
mod queue;
mod run;
mod stops;

use std::sync::Arc;
use std::thread::JoinHandle;

use lb_model::Worker;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::Refusal;
use crate::metrics::Metrics;

pub(crate) use job::{Event, Job, Piece, Spoken, Told, Work};
pub use job::{Finish, Usage};
pub(crate) use queue::Queue;

/// What bounds the engine.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Answers under way at a time.
    pub(crate) parallel: usize,
    /// Jobs that wait, and those of one tenant.
    pub(crate) waiting: usize,
    pub(crate) of_one: usize,
    /// Bytes of the prompts that are kept for those that begin alike.
    pub(crate) prefix_bytes: usize,
}

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct Engine {
    queue: Arc<Queue>,
}

impl Engine {
    /// Starts the thread; it ends when the queue is closed and everything under way is done.
    pub(crate) fn start(
        worker: Worker,
        bounds: Bounds,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let queue = Arc::new(Queue::new(bounds.waiting, bounds.of_one));
        let own = queue.clone();
        let thread = std::thread::Builder::new().name("engine".to_owned());
        let thread = thread.spawn(move || run::run(&worker, &own, &bounds, &metrics))?;
        Ok((Self { queue }, thread))
    }

    /// Puts a job at the end of its tenant's line; what is heard of it.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Refusal> {
        self.queue.put(job)
    }

    /// Takes nothing more; what waits and what is under way is still done.
    pub(crate) fn drain(&self) {
        self.queue.close();
    }

    /// Puts something of the server's own before all lines.
    pub(crate) fn submit_first(&self, job: Job) {
        self.queue.put_first(job);
    }

    /// Leaves out what nobody waits for any more.
    pub(crate) fn prune(&self) {
        self.queue.prune();
    }

    /// Ends everything that waits and is under way.
    pub(crate) fn abandon(&self) {
        self.queue.abandon();
    }

    /// Jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }
}

/// A job's events, with what calls the job off when nobody listens any more.
pub(crate) struct Listening {
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) hold: CallOff,
}

impl Listening {
    /// What calls it off from elsewhere.
    pub(crate) fn cancel_token(&self) -> lb_session::CancelToken {
        self.hold.0.clone()
    }
}

/// Calls a job off when it is dropped.
pub(crate) struct CallOff(pub(crate) lb_session::CancelToken);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
