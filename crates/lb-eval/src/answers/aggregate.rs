//! Figures of every condition: overall, by class, and what the run can show at all.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::Serialize;

use super::figures::{self, Setting};
pub use super::figures::{Clusters, Figures, Letters};
use super::{BenchRow, Part};
use crate::stats::bootstrap::{Bootstrap, Interval};
use crate::stats::power::Plan;
use crate::stats::variance::{Repeat, split};
use crate::{Error, Result};

/// Resamples of an interval of a class: there are many of them.
const FOR_CLASSES: usize = 2_000;
/// The default of [`Summary::margin`].
const MARGIN: f64 = 0.02;
/// The difference that the power note is about.
const POINTS: f64 = 0.03;

/// Everything that the rows say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The condition that accuracies are compared with.
    pub reference: String,
    /// How far below it an accuracy may surely be for a setting to hold, 0.02 for two points.
    pub margin: f64,
    /// Sets that the items are from.
    pub datasets: Vec<String>,
    /// Items.
    pub items: usize,
    /// Documents that they are about.
    pub documents: usize,
    /// Runs of the orchestrator of an item, at most.
    pub repeats: usize,
    /// Items to choose settings on, and items to report on.
    pub parts: [usize; 2],
    /// What is drawn together.
    pub clusters: Clusters,
    /// Every condition on all rows, in the order of the file.
    pub conditions: Vec<Figures>,
    /// The same by class.
    pub groups: Vec<Group>,
    /// Rows without an answer.
    pub failures: Vec<Failure>,
    /// Where the noise comes from, where items were run more than once.
    pub noise: Vec<Noise>,
    /// What the number of items can show.
    pub power: Vec<Power>,
}

/// The items of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// `difficulty`, `length`, `kind`, `domain`, `kind and length`, or `positions`: quarters of the items by trajectory.
    pub axis: &'static str,
    /// The class.
    pub value: String,
    /// Every condition.
    pub conditions: Vec<Figures>,
}

/// A row without an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The item.
    pub item: String,
    /// The condition.
    pub condition: String,
    /// The run.
    pub repeat: usize,
    /// Why.
    pub reason: String,
}

/// Variances of a single score, from a condition and the reference on the same recorded turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noise {
    /// The condition.
    pub condition: String,
    /// Between the orchestrator's runs of an item: what both have in common.
    pub orchestrator: Interval,
    /// Between handoffs of the same turns, each taken from its own mean.
    pub handoff: Interval,
    /// The orchestrator's share of both.
    pub share: Option<Interval>,
}

/// What a comparison with the reference can show, at level 0.05 and power 0.8.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Power {
    /// The condition.
    pub condition: String,
    /// Rows that both have.
    pub pairs: usize,
    /// Share of them that exactly one of the two has right.
    pub discordance: f64,
    /// Pairs that show a difference of three points; `None` where fewer than three in a hundred disagree, so that the
    /// difference cannot be that large.
    pub for_three_points: Option<u64>,
    /// The smallest difference that these pairs can show; `None` where they can show none.
    pub smallest: Option<f64>,
}

/// Conditions in the order in which they first come.
pub(super) fn conditions(rows: &[BenchRow]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    rows.iter().map(|r| r.condition.as_str()).filter(|c| seen.insert(*c)).collect()
}

/// The condition to compare with: the one asked for, else `full-kv`, else the first.
pub(super) fn reference<'a>(rows: &'a [BenchRow], asked: Option<&str>) -> Result<&'a str> {
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
pub(super) fn clusters(rows: &[BenchRow]) -> (Clusters, BTreeMap<&str, u64>) {
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
pub fn aggregate(rows: &[BenchRow], asked: Option<&str>, bootstrap: &Bootstrap) -> Result<Summary> {
    bootstrap.validate()?;
    let reference = reference(rows, asked)?;
    let (kind, clusters) = clusters(rows);
    let setting = Setting { reference, bootstrap: bootstrap.clone(), clusters: &clusters };
    let names = conditions(rows);
    let all: Vec<&BenchRow> = rows.iter().collect();
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

fn failures(rows: &[BenchRow]) -> Vec<Failure> {
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

/// The axis of kind and length together.
pub(super) const CELLS: &str = "kind and length";

type Axis = (&'static str, fn(&BenchRow) -> Option<&str>);

const AXES: [Axis; 4] = [
    ("difficulty", |r| r.difficulty.as_deref()),
    ("length", |r| r.length.as_deref()),
    ("kind", |r| Some(r.kind.as_str()).filter(|k| !k.is_empty())),
    ("domain", |r| r.domain.as_deref()),
];

/// Where a class stands: `easy` before `hard`, `short` before `medium` before `long`, numbers by their size, others by
/// name.
pub(super) type Place<'a> = (usize, u64, &'a str);

pub(super) fn place(class: &str) -> Place<'_> {
    let known = ["easy", "hard", "short", "medium", "long"].iter().position(|c| *c == class);
    (known.unwrap_or(5), class.parse().unwrap_or(0), class)
}

/// Cells of kind and length, above which there are too many to look at.
const MOST_CELLS: usize = 24;
/// Between the kind and the length of a class of both.
const AND: &str = ", ";

/// Rows by kind and length, where there are several of each and not too many.
fn cells<'a>(rows: &[&'a BenchRow]) -> Vec<(String, Vec<&'a BenchRow>)> {
    let mut cells: BTreeMap<(Place<'a>, Place<'a>), Vec<&BenchRow>> = BTreeMap::new();
    for row in rows {
        if let Some(length) = row.length.as_deref().filter(|_| !row.kind.is_empty()) {
            cells.entry((place(&row.kind), place(length))).or_default().push(row);
        }
    }
    let several = |of: fn(&(Place<'a>, Place<'a>)) -> Place<'a>| {
        cells.keys().map(of).collect::<BTreeSet<_>>().len() > 1
    };
    if !several(|(kind, _)| *kind) || !several(|(_, length)| *length) || cells.len() > MOST_CELLS {
        return Vec::new();
    }
    cells.into_iter().map(|((kind, length), rows)| (format!("{}{AND}{}", kind.2, length.2), rows)).collect()
}

fn groups(rows: &[&BenchRow], names: &[&str], setting: &Setting<'_>) -> Result<Vec<Group>> {
    let mut wanted: Vec<(&'static str, &str, Vec<&BenchRow>)> = Vec::new();
    for (axis, class) in AXES {
        let mut classes: BTreeMap<Place<'_>, Vec<&BenchRow>> = BTreeMap::new();
        for row in rows {
            if let Some(value) = class(row) {
                classes.entry(place(value)).or_default().push(row);
            }
        }
        wanted.extend(classes.into_iter().map(|((.., value), rows)| (axis, value, rows)));
    }
    let (cells, quarters) = (cells(rows), quarters(rows));
    wanted.extend(cells.iter().map(|(value, rows)| (CELLS, value.as_str(), rows.clone())));
    wanted.extend(quarters.iter().map(|(value, rows)| ("positions", value.as_str(), rows.clone())));
    let resamples = setting.bootstrap.resamples.min(FOR_CLASSES);
    let bootstrap = Bootstrap { resamples, ..setting.bootstrap.clone() };
    let setting = Setting { bootstrap, ..*setting };
    let group = |(axis, value, rows): &(&'static str, &str, Vec<&BenchRow>)| {
        let present = names.iter().filter(|c| rows.iter().any(|r| r.condition == **c));
        let conditions = present.map(|c| figures::figures(rows, c, &setting)).collect::<Result<_>>()?;
        Ok(Group { axis, value: (*value).to_owned(), conditions })
    };
    wanted.par_iter().map(group).collect()
}

/// The items in four parts of equal size, by the longest trajectory of each.
fn quarters<'a>(rows: &[&'a BenchRow]) -> Vec<(String, Vec<&'a BenchRow>)> {
    let mut longest: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let most = longest.entry(row.item.as_str()).or_default();
        *most = row.seq_len.max(*most);
    }
    let mut lengths: Vec<usize> = longest.values().copied().filter(|n| *n > 0).collect();
    lengths.sort_unstable();
    let Some(&last) = lengths.last() else { return Vec::new() };
    let mut ends: Vec<usize> = (1..4).map(|q| lengths[q * (lengths.len() - 1) / 4]).chain([last]).collect();
    ends.dedup();
    let mut parts = Vec::new();
    let mut above = 0;
    for end in ends {
        let inside = |r: &&&BenchRow| (above + 1..=end).contains(&longest[r.item.as_str()]);
        let rows: Vec<&BenchRow> = rows.iter().filter(inside).copied().collect();
        let from = lengths.iter().copied().find(|n| *n > above).unwrap_or(end);
        parts.push((if from == end { end.to_string() } else { format!("{from}–{end}") }, rows));
        above = end;
    }
    parts
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
fn noise(rows: &[&BenchRow], names: &[&str], setting: &Setting<'_>) -> Result<Vec<Noise>> {
    let reference = figures::of(rows, setting.reference);
    let mut noise = Vec::new();
    for condition in names.iter().filter(|c| **c != setting.reference) {
        let both = figures::pairs(&figures::of(rows, condition), &reference);
        let n = both.len().max(1) as f64;
        let score = |r: &BenchRow| f64::from(r.right());
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
