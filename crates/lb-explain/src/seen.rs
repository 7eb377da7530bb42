//! Which tokens lay in the worker's cache when a briefing was cut from it.

use std::ops::Range;

use lb_orchestrate::{Entered, Iteration};

/// What a briefing was cut from: the template's head and the segments `0..upto` but for those of some turns that were
/// stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) upto: usize,
    pub(super) without: Vec<Range<usize>>,
}

impl Seen {
    /// The numbers of its segments.
    pub(super) fn segments(&self) -> impl Iterator<Item = usize> {
        (0..self.upto).filter(|number| !self.without.iter().any(|gone| gone.contains(number)))
    }
}

/// The segments of one trajectory in the order in which they entered.
///
/// A turn that was stopped leaves its segments in the cache of a run that goes on, and a run that is resumed from its log
/// begins without those of all earlier stopped turns. The log does not say which it was; the number of positions does.
#[derive(Debug, Default)]
pub(super) struct Path<'a> {
    head: usize,
    entered: Vec<&'a Entered>,
    /// Tokens before each segment, and at the end.
    before: Vec<usize>,
    stopped: Vec<Range<usize>>,
    /// The last turn, if it was stopped: its own calls know its segments.
    stopping: Option<Range<usize>>,
    /// Stopped turns, from the first, that a resumed run has forgotten.
    forgotten: usize,
    /// Once a cache was not what the log has the text of, it is not any more.
    lost: bool,
}

impl<'a> Path<'a> {
    pub(super) fn new(head: usize) -> Self {
        Self { head, before: vec![0], ..Self::default() }
    }

    pub(super) fn entered(&self) -> &[&'a Entered] {
        &self.entered
    }

    /// Adds what entered in a turn; for each of its `calls` calls, how many segments there were when it began.
    pub(super) fn turn(&mut self, iteration: &'a Iteration, calls: usize) -> Vec<usize> {
        let first = self.entered.len();
        self.stopped.extend(self.stopping.take());
        for entered in &iteration.entered {
            let tokens = self.before.last().copied().unwrap_or(0) + entered.pieces.len();
            self.before.push(tokens);
            self.entered.push(entered);
        }
        self.stopping = iteration.stopped.is_some().then_some(first..self.entered.len());
        let mut known = 0;
        let upto = |call| {
            known +=
                iteration.entered[known..].iter().take_while(|entered| entered.after_calls <= call).count();
            first + known
        };
        (0..calls).map(upto).collect()
    }

    /// What a briefing over `positions` was cut from that began when there were `upto` segments; `None` where the log
    /// does not have the text of it.
    pub(super) fn seen(&mut self, upto: usize, positions: usize) -> Option<Seen> {
        if self.lost {
            return None;
        }
        for forgotten in self.forgotten..=self.stopped.len() {
            let without = self.stopped[..forgotten].to_vec();
            let gone: usize = without.iter().map(|gone| self.tokens(gone)).sum();
            if self.head + self.tokens(&(0..upto)) - gone == positions {
                self.forgotten = forgotten;
                return Some(Seen { upto, without });
            }
        }
        self.lost = true;
        None
    }

    fn tokens(&self, segments: &Range<usize>) -> usize {
        self.before[segments.end] - self.before[segments.start]
    }
}
