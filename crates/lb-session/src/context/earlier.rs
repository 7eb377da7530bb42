//! What a session has answered so far, for the queries of its next briefings.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Calls that are remembered; the oldest is forgotten first.
const MOST: usize = 64;

/// Tasks and their answers, as tokens.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    calls: Mutex<VecDeque<Call>>,
}

#[derive(Clone, Debug)]
struct Call {
    task: BTreeSet<u32>,
    answer: Vec<u32>,
}

impl Earlier {
    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<Call>) -> T) -> T {
        // Whatever a panic left is whole.
        work(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same calls; what either remembers from now on is its own.
    pub(crate) fn copy(&self) -> Self {
        Self { calls: Mutex::new(self.with(|calls| calls.clone())) }
    }

    pub(crate) fn remember(&self, task: &[u32], answer: Vec<u32>) {
        if answer.is_empty() {
            return;
        }
        let call = Call { task: task.iter().copied().collect(), answer };
        self.with(|calls| {
            if calls.len() == MOST {
                calls.pop_front();
            }
            calls.push_back(call);
        });
    }

    /// Answers to the tasks that have most tokens in common with this one (Jaccard), the latest first among equals, until `limit`
    /// tokens are together.
    pub(crate) fn like(&self, task: &[u32], limit: usize) -> Vec<u32> {
        if limit == 0 {
            return Vec::new();
        }
        let task: BTreeSet<u32> = task.iter().copied().collect();
        let mut calls = self.with(|calls| calls.iter().rev().cloned().collect::<Vec<_>>());
        let alike = |call: &Call| {
            let both = call.task.intersection(&task).count();
            both as f64 / (call.task.len() + task.len() - both).max(1) as f64
        };
        calls.sort_by(|a, b| alike(b).total_cmp(&alike(a)));
        calls.into_iter().flat_map(|call| call.answer).take(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Earlier, MOST};

    #[test]
    fn answers_to_the_most_similar_tasks_come_first() {
        let earlier = Earlier::default();
        earlier.remember(&[1, 2, 3], vec![10, 11]);
        earlier.remember(&[7, 8, 9], vec![20]);
        earlier.remember(&[1, 2, 9], vec![30, 31]);
        earlier.remember(&[5], Vec::new());
        assert_eq!(earlier.like(&[1, 2, 4], 10), [30, 31, 10, 11, 20]);
        assert_eq!(earlier.like(&[8, 7], 2), [20, 30]);
        assert!(earlier.like(&[1], 0).is_empty());
    }

    #[test]
    fn the_oldest_is_forgotten_and_a_copy_goes_its_own_way() {
        let earlier = Earlier::default();
        let copy = earlier.copy();
        for call in 0..=MOST as u32 {
            earlier.remember(&[call], vec![call]);
        }
        assert!(copy.like(&[0], 100).is_empty());
        let all = earlier.like(&[0], 100);
        assert_eq!(all.len(), MOST);
        assert!(!all.contains(&0));
    }
}
