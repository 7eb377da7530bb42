//! How much of the noise the orchestrator makes, and how much the handoff.
//!
//! Each item is run several times; each run's turns are recorded, and the same turns are answered several times over the
//! handoff. Scores then vary between items, between the runs of one item (the orchestrator wrote other turns) and between
//! the repeats of one run (the handoff, its seed, sampling). The components are estimated by the method of moments from a
//! nested analysis of variance, with unequal numbers of runs and repeats.
//!
//! Source: Sokal and Rohlf, *Biometry*, 3rd edition 1995, boxes 10.2 (components) and 10.5 (unequal numbers); Searle, Casella
//! and McCulloch, *Variance Components*, 1992, chapter 3.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, Interval, Method, interval};
use crate::{Error, Result};

/// One score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeat {
    /// The item.
    pub item: u64,
    /// The orchestrator's run of this item.
    pub run: u64,
    /// The score, for instance 0 or 1.
    pub score: f64,
}

/// Variances of a single score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Components {
    /// Between items; `None` with a single item.
    pub items: Option<f64>,
    /// Between the orchestrator's runs of one item. An estimate below 0 is noise around 0 and given as 0.
    pub orchestrator: f64,
    /// Between repeats of the handoff over the same recorded turns.
    pub handoff: f64,
}

/// Components with their intervals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The estimates.
    pub components: Components,
    /// Between the orchestrator's runs.
    pub orchestrator: Interval,
    /// Between repeats of the handoff.
    pub handoff: Interval,
    /// The orchestrator's share of the noise, orchestrator / (orchestrator + handoff); `None` where there is no noise.
    pub orchestrator_share: Option<Interval>,
}

/// Runs of one item, each with its scores.
type Runs = Vec<Vec<f64>>;

fn group(repeats: &[Repeat]) -> Result<Vec<Runs>> {
    let mut items: BTreeMap<u64, BTreeMap<u64, Vec<f64>>> = BTreeMap::new();
    for repeat in repeats {
        if !repeat.score.is_finite() {
            return Err(Error::config("score", repeat.score, "want finite scores"));
        }
        items.entry(repeat.item).or_default().entry(repeat.run).or_default().push(repeat.score);
    }
    Ok(items.into_values().map(|runs| runs.into_values().collect()).collect())
}

/// Sums of squares, degrees of freedom and the coefficients of unequal numbers.
#[derive(Default)]
struct Anova {
    scores: f64,
    runs: f64,
    items: f64,
    within: f64,
    between_runs: f64,
    /// Σ over items of Σ n² of runs / n of the item.
    runs_in_items: f64,
    /// Σ over runs of n².
    runs_squared: f64,
    /// Σ over items of n².
    items_squared: f64,
}

fn anova<'a>(items: impl Iterator<Item = &'a Runs>) -> (Anova, Vec<(f64, f64)>) {
    let mut a = Anova::default();
    let mut means = Vec::new();
    for runs in items {
        let n: f64 = runs.iter().map(|r| r.len() as f64).sum();
        let mean = runs.iter().flatten().sum::<f64>() / n;
        let squared: f64 = runs.iter().map(|r| (r.len() * r.len()) as f64).sum();
        for run in runs {
            let run_mean = run.iter().sum::<f64>() / run.len() as f64;
            a.within += run.iter().map(|y| (y - run_mean).powi(2)).sum::<f64>();
            a.between_runs += run.len() as f64 * (run_mean - mean).powi(2);
        }
        a.scores += n;
        a.runs += runs.len() as f64;
        a.items += 1.0;
        a.runs_in_items += squared / n;
        a.runs_squared += squared;
        a.items_squared += n * n;
        means.push((n, mean));
    }
    (a, means)
}

/// Components, unless an item was never run twice or no run was repeated.
fn estimate<'a>(items: impl Iterator<Item = &'a Runs>) -> Option<Components> {
    let (a, means) = anova(items);
    let (free_within, free_runs) = (a.scores - a.runs, a.runs - a.items);
    if free_within < 1.0 || free_runs < 1.0 {
        return None;
    }
    let handoff = a.within / free_within;
    let per_run = (a.scores - a.runs_in_items) / free_runs;
    let orchestrator = ((a.between_runs / free_runs - handoff) / per_run).max(0.0);
    let items = (a.items > 1.0).then(|| {
        let mean = means.iter().map(|(n, m)| n * m).sum::<f64>() / a.scores;
        let square = means.iter().map(|(n, m)| n * (m - mean).powi(2)).sum::<f64>() / (a.items - 1.0);
        let of_runs = (a.runs_in_items - a.runs_squared / a.scores) / (a.items - 1.0);
        let of_items = (a.scores - a.items_squared / a.scores) / (a.items - 1.0);
        ((square - handoff - of_runs * orchestrator) / of_items).max(0.0)
    });
    Some(Components { items, orchestrator, handoff })
}

/// The components, with percentile intervals that resample items.
///
/// # Errors
/// [`Error::Config`] where no item was run twice, no run was repeated, a score is not finite or the settings are out of
/// range.
pub fn split(repeats: &[Repeat], settings: &Bootstrap) -> Result<Split> {
    let items = group(repeats)?;
    let components = estimate(items.iter()).ok_or_else(|| {
        let reason = "want an item with two runs and a run with two repeats";
        Error::config("repeats", repeats.len(), reason)
    })?;
    let settings = Bootstrap { method: Method::Percentile, ..settings.clone() };
    let over = |figure: fn(Components) -> f64| {
        interval(items.len(), &settings, |drawn| {
            estimate(drawn.iter().map(|&i| &items[i])).map_or(f64::NAN, figure)
        })
    };
    let noise = components.orchestrator + components.handoff;
    Ok(Split {
        components,
        orchestrator: over(|c| c.orchestrator)?,
        handoff: over(|c| c.handoff)?,
        orchestrator_share: if noise > 0.0 {
            Some(over(|c| c.orchestrator / (c.orchestrator + c.handoff))?)
        } else {
            None
        },
    })
}
