//! Room for a trajectory that comes near the model's position limit.

mod compact;
mod enter;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub(super) use enter::enter;

/// What happens when new segments bring the trajectory near the model's position limit. Nothing is ever cut silently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RoomPolicy {
    /// What does not fit is refused with [`Error::NoRoom`], and the session stays as it is.
    #[default]
    Refuse,
    /// The oldest part of the cache is compacted.
    CompactOldest(CompactOldest),
}

/// How the oldest part is compacted, without a task: what the worker attends to when it is asked to repeat that part stays
/// (KVzip, arXiv 2505.23416).
///
/// One mask holds for all layers and heads, so that the kept tokens can be told. Their keys move up behind the template's
/// head, everything behind them moves down (rotations add up), and slots, positions and tokens are the same in number
/// afterwards. The full text stays in the trajectory, and [`Handoff::TextReplay`](crate::Handoff::TextReplay) goes on to
/// need all of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactOldest {
    /// Share of the oldest part that stays, above 0 and below 1. Default: 0.5.
    pub keep_ratio: f64,
    /// How much counts as the oldest part, of all positions behind the template's head; more where that does not make
    /// room enough. Above 0, at most 1. Default: 0.5.
    pub share: f64,
    /// Positions that stay free for a task and its answer, and for the request to repeat. Default: 1,024.
    pub reserve: usize,
    /// Tokens at most whose queries decide what stays, at least 1; they are drawn at even distances. Default: 512.
    pub queries: usize,
    /// What is fitted to those queries. Default: nothing.
    pub fit: RoomFit,
}

impl Default for CompactOldest {
    fn default() -> Self {
        Self { keep_ratio: 0.5, share: 0.5, reserve: 1024, queries: 512, fit: RoomFit::Nothing }
    }
}

/// What is corrected in a part that is compacted for no task in particular. A task's own queries ask for other positions
/// than those of a repetition, and biases fitted to the latter draw attention away from what was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoomFit {
    /// Nothing: values stay as they are, biases are 0.
    #[default]
    Nothing,
    /// Values, as by default of [`Compaction`](lb_am::Compaction).
    Values,
    /// Biases and values.
    BiasesAndValues,
}

/// Positions that a repetition needs behind its request, at the least.
const REPEATED: usize = 32;

impl RoomPolicy {
    /// Compacts the oldest part, by the defaults of [`CompactOldest`].
    pub fn compact_oldest() -> Self {
        Self::CompactOldest(CompactOldest::default())
    }

    /// The name used in errors and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::CompactOldest(_) => "compact-oldest",
        }
    }

    /// Checks every range for a model of `limit` positions, of which the template's head and the request to repeat take
    /// some.
    pub(crate) fn validate(&self, limit: usize, head: usize, request: usize) -> Result<()> {
        let Self::CompactOldest(oldest) = self else { return Ok(()) };
        let CompactOldest { keep_ratio, share, reserve, queries, .. } = *oldest;
        if !(keep_ratio > 0.0 && keep_ratio < 1.0) {
            return Err(Error::config("room.keep_ratio", keep_ratio, "want a ratio in (0, 1)"));
        }
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::config("room.share", share, "want a share in (0, 1]"));
        }
        if queries == 0 {
            return Err(Error::config("room.queries", 0, "want at least 1"));
        }
        if reserve < request + REPEATED {
            let reason = "want room for a request to repeat what is compacted";
            return Err(Error::config("room.reserve", reserve, reason));
        }
        if oldest.piece(limit, head) == 0 {
            let reason = "leaves the trajectory no room in this model's positions";
            return Err(Error::config("room.reserve", reserve, reason));
        }
        Ok(())
    }
}

impl CompactOldest {
    /// Positions that the trajectory may take.
    pub(crate) fn ceiling(&self, limit: usize) -> usize {
        limit.saturating_sub(self.reserve)
    }

    /// Tokens that one compaction of everything can make room for, halved so that not everything has to be.
    fn piece(&self, limit: usize, head: usize) -> usize {
        let body = self.ceiling(limit).saturating_sub(head);
        (body - self.kept(body)) / 2
    }

    fn kept(&self, span: usize) -> usize {
        ((self.keep_ratio * span as f64).ceil() as usize).clamp(1.min(span), span)
    }

    /// Positions behind the head to compact so that `need` become free.
    fn span(&self, body: usize, need: usize) -> usize {
        let share = (self.share * body as f64).ceil() as usize;
        let mut span = share.clamp(1.min(body), body);
        while span < body && span - self.kept(span) < need {
            span += 1;
        }
        span
    }
}

/// A compaction of the oldest part. Positions are counted with the template's head, as the cache was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomReport {
    /// The first position that was compacted, behind the template's head.
    pub from: usize,
    /// The first behind them that was not.
    pub to: usize,
    /// Positions that are left of them.
    pub kept: usize,
    /// Positions of the cache before.
    pub seq_len: usize,
    /// Tokens that were read for the queries: the request, and those positions once more.
    pub read: usize,
    /// Wall time.
    pub elapsed: Duration,
}

impl RoomReport {
    /// Positions that became free.
    pub fn freed(&self) -> usize {
        self.to - self.from - self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::CompactOldest;

    #[test]
    fn the_oldest_part_is_as_large_as_it_must_be() {
        let policy = CompactOldest { keep_ratio: 0.25, share: 0.5, ..CompactOldest::default() };
        assert_eq!(policy.span(100, 10), 50);
        assert_eq!(policy.span(100, 60), 80);
        assert_eq!(policy.span(100, 75), 100);
        assert_eq!(policy.span(1, 0), 1);
        assert_eq!((policy.kept(80), policy.kept(1), policy.piece(1144, 20)), (20, 1, 37));
    }
}
