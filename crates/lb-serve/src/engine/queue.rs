//! Who is next: a line for each tenant, taken in turn, so that nobody waits for all of somebody's requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lb_session::CancelToken;

use super::{Event, Job};
use crate::{Refusal, Tenant};

/// What a look at the queue gives.
pub(super) enum Taken {
    Job(Box<Job>),
    /// Nothing waits.
    Nothing,
    /// Nothing waits and nothing will come.
    Closed,
}

/// Lines of jobs.
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    came: Condvar,
    most: usize,
    of_one: usize,
}

#[derive(Default)]
struct Lines {
    of: HashMap<Tenant, VecDeque<Job>>,
    /// Tenants whose line is not empty; the first is next.
    turns: VecDeque<Tenant>,
    waiting: usize,
    /// Of the server's own.
    first: VecDeque<Job>,
    closed: bool,
    abandoned: bool,
    /// Calls off what is being begun.
    begun: Option<CancelToken>,
}

impl Lines {
    fn len_of(&self, tenant: &Tenant) -> usize {
        self.of.get(tenant).map_or(0, VecDeque::len)
    }

    fn prune(&mut self) {
        let now = Instant::now();
        let mut waiting = 0;
        self.of.retain(|_, line| {
            line.retain(|job| {
                if now >= job.until {
                    job.tell(Event::Refused(Refusal::Deadline(job.allowed)));
                }
                !job.cancel.is_cancelled() && now < job.until
            });
            waiting += line.len();
            !line.is_empty()
        });
        self.turns.retain(|tenant| self.of.contains_key(tenant));
        self.waiting = waiting;
    }
}

impl Queue {
    /// With room for `most` jobs, and for `of_one` of a tenant.
    pub(super) fn new(most: usize, of_one: usize) -> Self {
        Self { lines: Mutex::default(), came: Condvar::new(), most, of_one }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, job: Job) -> Result<(), Refusal> {
        let mut lines = self.lines();
        if lines.closed || lines.abandoned {
            return Err(Refusal::Draining);
        }
        let is_full = |lines: &Lines| lines.waiting >= self.most || lines.len_of(&job.tenant) >= self.of_one;
        if is_full(&lines) {
            lines.prune();
        }
        if is_full(&lines) {
            // What waits is gone through in some seconds; who comes back at once would only be refused again.
            return Err(Refusal::Busy { after: 1 + lines.waiting as u64 / 16 });
        }
        lines.waiting += 1;
        let tenant = job.tenant.clone();
        let line = lines.of.entry(tenant.clone()).or_default();
        line.push_back(job);
        if line.len() == 1 {
            lines.turns.push_back(tenant);
        }
        drop(lines);
        self.came.notify_one();
        Ok(())
    }

    /// The next job; where none waits and `patient`, waits for one.
    pub(super) fn take(&self, patient: bool) -> Taken {
        let mut lines = self.lines();
        lines.begun = None;
        loop {
            if let Some(job) = lines.first.pop_front() {
                return Taken::Job(Box::new(job));
            }
            if let Some(tenant) = lines.turns.pop_front() {
                let line = lines.of.get_mut(&tenant);
                let job = line.and_then(VecDeque::pop_front);
                if lines.of.get(&tenant).is_some_and(|line| !line.is_empty()) {
                    lines.turns.push_back(tenant);
                } else {
                    lines.of.remove(&tenant);
                }
                if let Some(job) = job {
                    lines.waiting -= 1;
                    lines.begun = Some(job.cancel.clone());
                    return Taken::Job(Box::new(job));
                }
                continue;
            }
            if lines.closed {
                return Taken::Closed;
            }
            if !patient {
                return Taken::Nothing;
            }
            lines = self.came.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Something of the server's own, which comes first and finds room in a full queue.
    pub(super) fn put_first(&self, job: Job) {
        self.lines().first.push_back(job);
        self.came.notify_one();
    }

    pub(super) fn has_first(&self) -> bool {
        !self.lines().first.is_empty()
    }

    /// Leaves out what nobody waits for any more.
    pub(super) fn prune(&self) {
        self.lines().prune();
    }

    /// Refuses everything that waits and comes, and calls off what is being begun; the server's own jobs are still done.
    pub(super) fn abandon(&self) {
        let mut lines = self.lines();
        lines.abandoned = true;
        if let Some(cancel) = &lines.begun {
            cancel.cancel();
        }
        for (_, line) in lines.of.drain() {
            for job in line {
                job.tell(Event::Refused(Refusal::Draining));
            }
        }
        lines.turns.clear();
        lines.waiting = 0;
        drop(lines);
        self.came.notify_all();
    }

    /// Whether what is under way is to end at once.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lines().abandoned
    }

    pub(super) fn close(&self) {
        self.lines().closed = true;
        self.came.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.lines().waiting
    }
}
