//! Figures of every condition: overall, by class, and what the run can show at all.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::classes::groups;
use super::figures::{self, Setting, conditions};
use super::{AnswerRow, Clusters, Failure, Figures, Noise, Power, Summary};
use crate::pipeline::Part;
use crate::stats::bootstrap::Bootstrap;
use crate::stats::power::Plan;
use crate::stats::variance::{Repeat, split};
use crate::{Error, Result};

/// The default of [`Summary::margin`].
const MARGIN: f64 = 0.02;
/// The difference that the power note is about.
const POINTS: f64 = 0.03;

/// The condition to compare with: the one asked for, else `full-kv`, else the first.
pub(super) fn reference<'a>(rows: &'a [AnswerRow], asked: Option<&str>) -> Result<&'a str> {
    let all = conditions(rows);
    let find = |name: &str| all.iter().find(|c| **c == name).copied();
    match asked {
        Some(name) => {
            find(name).ok_or_else(|| Error::config("reference", name, "there are no rows of this condition"))
        }
        None => find("full-kv")
            .or(all.first().copied())
            .ok_or_else(|| Error::config("rows", 0, "want at least one row")),
    }
}

/// The cluster of each item: by item where the rows have but one cluster, which would leave nothing to draw.
pub(super) fn clusters(rows: &[AnswerRow]) -> (Clusters, BTreeMap<&str, u64>) {
    let mut of: BTreeMap<&str, u64> = rows.iter().map(|r| (r.item.as_str(), r.cluster)).collect();
    let distinct: BTreeSet<u64> = of.values().copied().collect();
    if distinct.len() > 1 || of.len() < 2 {
        return (Clusters::Document, of);
    }
    of.values_mut().zip(0..).for_each(|(cluster, n)| *cluster = n);
    (Clusters::Item, of)
}

/// Figures of every condition on `rows`, against `asked`, or `full-kv`, or the first condition.
///
/// # Errors
/// [`Error::Config`] without rows, for a reference without rows, or for bootstrap settings out of range.
pub fn summarise(rows: &[AnswerRow], asked: Option<&str>, bootstrap: &Bootstrap) -> Result<Summary> {
    bootstrap.validate()?;
    let reference = reference(rows, asked)?;
    let (kind, clusters) = clusters(rows);
    let setting = Setting { reference, bootstrap: bootstrap.clone(), clusters: &clusters };
    let names = conditions(rows);
    let all: Vec<&AnswerRow> = rows.iter().collect();
    let conditions: Vec<Figures> =
        names.par_iter().map(|c| figures::figures(&all, c, &setting)).collect::<Result<_>>()?;
    let in_part =
        |part| rows.iter().filter(|r| r.part == part).map(|r| r.item.as_str()).collect::<BTreeSet<_>>().len();
    Ok(Summary {
        reference: reference.to_owned(),
        margin: MARGIN,
        datasets: rows.iter().map(|r| r.dataset.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
        items: clusters.len(),
        documents: clusters.values().collect::<BTreeSet<_>>().len(),
        repeats: rows.iter().map(|r| r.repeat).collect::<BTreeSet<_>>().len(),
        parts: [in_part(Part::Validation), in_part(Part::Test)],
        clusters: kind,
        groups: groups(&all, &names, &setting)?,
        failures: failures(rows),
        noise: noise(&all, &names, &setting)?,
        power: conditions.iter().filter_map(power).collect::<Result<_>>()?,
        conditions,
    })
}

fn failures(rows: &[AnswerRow]) -> Vec<Failure> {
    let failed = rows.iter().filter_map(|r| r.failure.as_ref().map(|reason| (r, reason)));
    failed
        .map(|(r, reason)| Failure {
            item: r.item.clone(),
            condition: r.condition.clone(),
            repeat: r.repeat,
            reason: reason.clone(),
        })
        .collect()
}

fn power(figures: &Figures) -> Option<Result<Power>> {
    let test = figures.mcnemar?;
    let pairs = figures.pairs;
    let discordance = (test.only_first + test.only_second) as f64 / pairs as f64;
    let note = |for_three_points, smallest| Power {
        condition: figures.condition.clone(),
        pairs,
        discordance,
        for_three_points,
        smallest,
    };
    if discordance <= 0.0 {
        return Some(Ok(note(None, None)));
    }
    let plan = Plan::new(discordance);
    let items = if discordance >= POINTS { plan.items(POINTS).map(Some) } else { Ok(None) };
    Some(items.and_then(|items| Ok(note(items, plan.smallest_difference(pairs as u64)?))))
}

/// Per condition, with the reference as the other handoff of the same turns; none where no item was run twice.
fn noise(rows: &[&AnswerRow], names: &[&str], setting: &Setting<'_>) -> Result<Vec<Noise>> {
    let reference = figures::of(rows, setting.reference);
    let mut noise = Vec::new();
    for condition in names.iter().filter(|c| **c != setting.reference) {
        let both = figures::pairs(&figures::of(rows, condition), &reference);
        let n = both.len().max(1) as f64;
        let score = |r: &AnswerRow| f64::from(r.right());
        let first = both.iter().map(|(a, _)| score(a)).sum::<f64>() / n;
        let second = both.iter().map(|(_, b)| score(b)).sum::<f64>() / n;
        let ids: BTreeMap<&str, u64> = both.iter().map(|(a, _)| a.item.as_str()).zip(0..).collect();
        let repeats: Vec<Repeat> = both
            .iter()
            .flat_map(|(a, b)| {
                let of = |score| Repeat { item: ids[a.item.as_str()], run: a.repeat as u64, score };
                [of(score(a) - first), of(score(b) - second)]
            })
            .collect();
        match split(&repeats, &setting.bootstrap) {
            Ok(split) => noise.push(Noise {
                condition: (*condition).to_owned(),
                orchestrator: split.orchestrator,
                handoff: split.handoff,
                share: split.orchestrator_share,
            }),
            // No item has two runs.
            Err(Error::Config { field: "repeats", .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(noise)
}
