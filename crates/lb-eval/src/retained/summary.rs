//! From rows to figures, each with its interval.

use serde::{Deserialize, Serialize};

use super::plan::Target;
use super::row::{Measured, Rank, RetainedRow};
use crate::stats::bootstrap::{Bootstrap, interval};
use crate::stats::{grouped, median};
use crate::{Error, Result};

/// What a measurement says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetainedSummary {
    /// The worker's name.
    pub worker: String,
    /// The data.
    pub data: String,
    /// Whose continuation was read.
    pub target: Target,
    /// Items that were measured.
    pub items: usize,
    /// Items that could not be.
    pub failed: usize,
    /// Documents that they are about; intervals resample these.
    pub documents: usize,
    /// Nats a token over the full cache, mean over items.
    pub nll_full: f64,
    /// The same without the trajectory.
    pub nll_none: f64,
    /// Median positions of a trajectory.
    pub seq_len: f64,
    /// One entry for each condition, in the order of the plan.
    pub conditions: Vec<ConditionSummary>,
}

impl RetainedSummary {
    /// What the figures are about, in a few sentences.
    pub fn meaning(&self) -> String {
        let Self { worker, items, documents, nll_full, nll_none, seq_len, failed, .. } = self;
        let whose = match self.target {
            Target::Reference => "the recorded continuation",
            Target::Own => "what the worker itself writes over the full cache",
        };
        let failed =
            if *failed == 0 { String::new() } else { format!(" {failed} items could not be measured.") };
        format!(
            "{worker}: {items} items of {documents} documents, {seq_len:.0} positions (median). Retained is the share of what \
             the trajectory is worth for {whose}: {nll_full:.2} nats a token over the full cache, {nll_none:.2} without it; 1 \
             is the full cache, 0 no trajectory.{failed}"
        )
    }
}

/// One condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConditionSummary {
    /// The condition, as text.
    pub handoff: String,
    /// What it retains: 1 is the full cache, 0 is no trajectory. `None` where the full cache is no better than nothing, so
    /// that there is nothing to retain.
    pub retained: Option<f64>,
    /// 95 % interval over documents.
    pub ci95: Option<[f64; 2]>,
    /// Share of target tokens at which the most likely token is the full cache's, mean over items.
    pub agreement: f64,
    /// KL(full ‖ condition), nats a token, mean over items.
    pub kl: f64,
    /// Nats a token, mean over items.
    pub nll: f64,
    /// Kept / original positions, mean over items.
    pub kept: f64,
    /// Positions in the worker's context and the target's tokens, mean over items.
    pub worker_tokens: f64,
    /// Tokens that were read and written to make what stands in the trajectory's place, mean over items; of what several conditions have in
    /// common, those of the first.
    #[serde(default)]
    pub made_tokens: f64,
    /// Share of items of which a message was within its bound, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<f64>,
    /// Milliseconds to make the selection or the briefing, median over items.
    pub brief_ms: f64,
    /// The same as a share of the time that reading the whole trajectory takes, at the speed at which the item's was read; `None`
    /// where no item says how long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brief_share: Option<f64>,
    /// Effective ranks of the cache that it leaves, means over the items; where every item says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
    /// Against the first briefing of the plan that has its size, or the first at all, on the same items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// A paired difference of what two conditions retain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The condition that is compared with.
    pub to: String,
    /// This one minus that one.
    pub retained: f64,
    /// 95 % interval over documents.
    pub ci95: [f64; 2],
}

/// Sums of one document over its items, in nats a token.
#[derive(Clone, Default)]
struct Sums {
    full: f64,
    none: f64,
    conditions: Vec<f64>,
}

/// The figures of rows that share a plan. Items without a figure are left out and counted.
///
/// # Errors
/// [`Error::Config`] where rows have other conditions than the first, and for settings of the bootstrap out of range.
pub fn summarise(
    worker: &str,
    data: &str,
    rows: &[RetainedRow],
    settings: &Bootstrap,
) -> Result<RetainedSummary> {
    settings.validate()?;
    let good: Vec<&RetainedRow> = rows.iter().filter(|row| row.failure.is_none()).collect();
    let names: Vec<&str> =
        good.first().map_or(Vec::new(), |row| row.conditions.iter().map(|m| m.handoff.as_str()).collect());
    for row in &good {
        if !row.conditions.iter().map(|m| m.handoff.as_str()).eq(names.iter().copied()) {
            return Err(Error::config("conditions", &row.item, "are others than those of the first row"));
        }
    }
    let documents = sums(&good);
    let mean = |of: &dyn Fn(&RetainedRow) -> f64| {
        good.iter().map(|row| of(row)).sum::<f64>() / good.len().max(1) as f64
    };
    let condition = |(number, name): (usize, &&str)| {
        let of = |field: fn(&Measured) -> f64| mean(&|row| field(&row.conditions[number]));
        let figure = (!documents.is_empty())
            .then(|| interval(documents.len(), settings, |drawn| retained(&documents, drawn, number)));
        let figure = figure.and_then(Result::ok);
        let difference = base(&names, name).filter(|base| *base != number).and_then(|base| {
            let minus =
                |drawn: &[usize]| retained(&documents, drawn, number) - retained(&documents, drawn, base);
            let figure = interval(documents.len(), settings, minus).ok()?;
            let ci95 = [figure.low, figure.high];
            Some(Difference { to: names[base].to_owned(), retained: figure.estimate, ci95 })
        });
        ConditionSummary {
            handoff: (*name).to_owned(),
            retained: figure.map(|figure| figure.estimate),
            ci95: figure.map(|figure| [figure.low, figure.high]),
            agreement: of(|m| m.agreement),
            kl: of(|m| m.kl),
            nll: of(|m| m.nll),
            kept: of(|m| m.kept),
            worker_tokens: of(|m| m.worker_tokens as f64),
            made_tokens: of(|m| m.made_tokens as f64),
            within: within(&good, number),
            brief_ms: median(good.iter().map(|row| row.conditions[number].brief_ms)),
            brief_share: brief_share(&good, number),
            rank: rank(&good, number),
            difference,
        }
    };
    Ok(RetainedSummary {
        worker: worker.to_owned(),
        data: data.to_owned(),
        target: good.first().map_or(Target::default(), |row| row.target),
        items: good.len(),
        failed: rows.len() - good.len(),
        documents: documents.len(),
        nll_full: mean(&|row| row.full.nll),
        nll_none: mean(&|row| row.none.nll),
        seq_len: median(good.iter().map(|row| row.seq_len as f64)),
        conditions: names.iter().enumerate().map(condition).collect(),
    })
}

/// Share of rows in which the message of condition `number` was within its bound, of those that had several to choose from.
fn within(rows: &[&RetainedRow], number: usize) -> Option<f64> {
    let found: Vec<bool> =
        rows.iter().filter_map(|row| row.conditions[number].squeezed).map(|found| found.within).collect();
    let count = found.iter().filter(|within| **within).count();
    (!found.is_empty()).then(|| count as f64 / found.len() as f64)
}

/// Means over items that all have one.
fn rank(rows: &[&RetainedRow], number: usize) -> Option<Rank> {
    let ranks: Vec<Rank> = rows.iter().map(|row| row.conditions[number].rank).collect::<Option<_>>()?;
    let mean = |of: fn(&Rank) -> f64| ranks.iter().map(of).sum::<f64>() / ranks.len() as f64;
    (!ranks.is_empty()).then(|| Rank { keys: mean(|rank| rank.keys), values: mean(|rank| rank.values) })
}

/// Time of a briefing over that of reading its trajectory, median over items.
fn brief_share(rows: &[&RetainedRow], number: usize) -> Option<f64> {
    let share = |row: &&RetainedRow| {
        // An item that goes on where another ended may have nothing to read.
        if row.read_tokens == 0 {
            return None;
        }
        let whole = row.read_ms * row.seq_len as f64 / row.read_tokens as f64;
        let share = row.conditions[number].brief_ms / whole;
        share.is_finite().then_some(share)
    };
    let shares: Vec<f64> = rows.iter().filter_map(share).collect();
    (!shares.is_empty()).then(|| median(shares))
}

/// What condition `name` is compared with: the first briefing that has its size, or the first at all.
fn base(names: &[&str], name: &str) -> Option<usize> {
    let briefing = |name: &str| name.starts_with("latent-briefing");
    let size = |name: &str| Some(name.split_once("keep=")?.1.split(',').next()?.to_owned());
    let own = size(name);
    let same = own.and_then(|own| names.iter().position(|n| briefing(n) && size(n).as_deref() == Some(&own)));
    same.or_else(|| names.iter().position(|n| briefing(n)))
}

/// By document, in the order in which they first come.
fn sums(rows: &[&RetainedRow]) -> Vec<Sums> {
    let sums = |(_, rows): (&str, Vec<&RetainedRow>)| {
        let sum = |of: &dyn Fn(&RetainedRow) -> f64| rows.iter().map(|row| of(row)).sum::<f64>();
        let conditions = 0..rows[0].conditions.len();
        Sums {
            full: sum(&|row| row.full.nll),
            none: sum(&|row| row.none.nll),
            conditions: conditions.map(|number| sum(&|row| row.conditions[number].nll)).collect(),
        }
    };
    grouped(rows.iter().copied(), |row| row.document.as_str()).into_iter().map(sums).collect()
}

/// What condition `number` retains over the documents that were drawn; NaN where there is nothing to retain.
fn retained(documents: &[Sums], drawn: &[usize], number: usize) -> f64 {
    let sum = |of: &dyn Fn(&Sums) -> f64| drawn.iter().map(|at| of(&documents[*at])).sum::<f64>();
    let (full, none) = (sum(&|d| d.full), sum(&|d| d.none));
    let worth = none - full;
    if worth <= 0.0 {
        return f64::NAN;
    }
    1.0 - (sum(&|d| d.conditions[number]) - full) / worth
}
