//! Who is next: a line for each tenant, taken in turn, so that nobody waits for all of somebody's requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Job;
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
}

#[derive(Default)]
struct Lines {
    of: HashMap<Tenant, VecDeque<Job>>,
    /// Tenants whose line is not empty; the first is next.
    turns: VecDeque<Tenant>,
    waiting: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self { lines: Mutex::default(), came: Condvar::new(), most }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, tenant: &Tenant, job: Job) -> Result<(), Refusal> {
        let mut lines = self.lines();
        if lines.closed {
            return Err(Refusal::Draining);
        }
        if lines.waiting >= self.most {
            // What waits is gone through in some seconds; who comes back at once would only be refused again.
            return Err(Refusal::Busy { waiting: lines.waiting, after: 1 + lines.waiting as u64 / 16 });
        }
        lines.waiting += 1;
        let line = lines.of.entry(tenant.clone()).or_default();
        line.push_back(job);
        if line.len() == 1 {
            lines.turns.push_back(tenant.clone());
        }
        drop(lines);
        self.came.notify_one();
        Ok(())
    }

    /// The next job; where none waits and `patient`, waits for one.
    pub(super) fn take(&self, patient: bool) -> Taken {
        let mut lines = self.lines();
        loop {
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

    pub(super) fn close(&self) {
        self.lines().closed = true;
        self.came.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.lines().waiting
    }
}
