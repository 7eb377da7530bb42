//! Rows by class: difficulty, length, kind, domain, kind and length together, length of the trajectory.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::figures::{self, Setting};
use super::{AnswerRow, Group};
use crate::Result;
use crate::stats::bootstrap::Bootstrap;

/// Resamples of an interval of a class: there are many of them.
const FOR_CLASSES: usize = 2_000;

/// The axis of kind and length together.
pub const CELLS: &str = "kind and length";

type Axis = (&'static str, fn(&AnswerRow) -> Option<&str>);

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
fn cells<'a>(rows: &[&'a AnswerRow]) -> Vec<(String, Vec<&'a AnswerRow>)> {
    let mut cells: BTreeMap<(Place<'a>, Place<'a>), Vec<&AnswerRow>> = BTreeMap::new();
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

pub(super) fn groups(rows: &[&AnswerRow], names: &[&str], setting: &Setting<'_>) -> Result<Vec<Group>> {
    let mut wanted: Vec<(&'static str, &str, Vec<&AnswerRow>)> = Vec::new();
    for (axis, class) in AXES {
        let mut classes: BTreeMap<Place<'_>, Vec<&AnswerRow>> = BTreeMap::new();
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
    let group = |(axis, value, rows): &(&'static str, &str, Vec<&AnswerRow>)| {
        let present = names.iter().filter(|c| rows.iter().any(|r| r.condition == **c));
        let conditions = present.map(|c| figures::figures(rows, c, &setting)).collect::<Result<_>>()?;
        Ok(Group { axis, value: (*value).to_owned(), conditions })
    };
    wanted.par_iter().map(group).collect()
}

/// The items in four parts of equal size, by the longest trajectory of each.
fn quarters<'a>(rows: &[&'a AnswerRow]) -> Vec<(String, Vec<&'a AnswerRow>)> {
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
        let inside = |r: &&&AnswerRow| (above + 1..=end).contains(&longest[r.item.as_str()]);
        let rows: Vec<&AnswerRow> = rows.iter().filter(inside).copied().collect();
        let from = lengths.iter().copied().find(|n| *n > above).unwrap_or(end);
        parts.push((if from == end { end.to_string() } else { format!("{from}–{end}") }, rows));
        above = end;
    }
    parts
}
