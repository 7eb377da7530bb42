//! The thread: jobs in, steps between them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lb_model::Worker;

use super::answer::Running;
use super::queue::{Queue, Taken};
use super::{Bounds, Event, Job, begin};
use crate::Refusal;
use crate::metrics::{Metrics, count};

/// Computes until the queue is closed and nothing is under way.
pub(super) fn run(worker: &Worker, queue: &Queue, bounds: &Bounds, metrics: &Arc<Metrics>) {
    let begun = || {
        metrics.running.set(0);
        Running::new(worker, bounds.parallel, bounds.prefix_bytes, metrics.clone())
    };
    let mut running = begun();
    loop {
        if queue.is_abandoned() {
            running.abandon();
        }
        if !running.is_full() || queue.has_first() {
            match queue.take(running.is_empty()) {
                Taken::Job(job) => {
                    metrics.waiting.set(count(queue.len()));
                    if !survives(&job, || begin::begin(&mut running, &job)) {
                        // What a panic left behind is not gone on with.
                        running = begun();
                    }
                }
                Taken::Closed if running.is_empty() => return,
                Taken::Closed | Taken::Nothing => {}
            }
        }
        if catch_unwind(AssertUnwindSafe(|| running.step())).is_err() {
            running = begun();
        }
    }
}

/// A fault of ours in one job is that job's; answers under way are told by their closed channels.
fn survives(job: &Job, work: impl FnOnce()) -> bool {
    let done = catch_unwind(AssertUnwindSafe(work)).is_ok();
    if !done {
        job.tell(Event::Refused(Refusal::Internal("a fault of the server; it is in its log".to_owned())));
    }
    done
}
