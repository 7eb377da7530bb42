//! Compactions with one mask for each layer, mean scores, spans of nine positions and equal counts: what tests of single stages are written for,
//! and what the default was before it was decided on real logs.

use lb_am::{Budget, Compaction, ScoreAgg, Selection, Sharing, Spans};

/// Makes them, as [`Compaction`] makes those with the defaults.
#[derive(Debug)]
pub struct Layered;

impl Layered {
    /// By the MAD rule.
    pub fn mad(tau: f64) -> Compaction {
        of(Compaction::mad(tau))
    }

    /// A share of the positions.
    pub fn keep_ratio(ratio: f64) -> Compaction {
        of(Compaction::keep_ratio(ratio))
    }

    /// So many positions.
    pub fn kept_len(len: usize) -> Compaction {
        of(Compaction::kept_len(len))
    }

    /// As few as an error allows.
    pub fn error_below(epsilon: f64) -> Compaction {
        of(Compaction::error_below(epsilon))
    }

    /// By any budget.
    pub fn with_budget(budget: Budget) -> Compaction {
        of(Compaction::with_budget(budget))
    }
}

fn of(compaction: Compaction) -> Compaction {
    let layered = compaction.with_selection(Selection::per_layer()).with_score(ScoreAgg::Mean);
    layered.with_spans(Spans::Max { width: 9 }).with_sharing(Sharing::Equal)
}
