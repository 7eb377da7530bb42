//! The pictures of a report. Every point has its interval.

mod classes;
mod panels;
mod scatter;

use std::collections::BTreeSet;
use std::path::Path;

use plotters::prelude::*;

use super::families::{families, lines};
use crate::Result;
use crate::answers::calibrate::weight;
use crate::answers::{Figures, Group, Summary};
use crate::picture::{self, Area, COLOURS, Drawn, FAINT, INK, colour, say};
use crate::stats::bootstrap::Interval;
use classes::{Chart, Series};

/// Pixels; twice what a page shows.
const SIZE: (u32, u32) = (1920, 960);
const LEGEND: u32 = 520;

/// A picture of the report.
pub(super) struct Picture {
    pub(super) file: &'static str,
    pub(super) caption: String,
    what: What,
}

enum What {
    Scatter(Vec<scatter::Dot>),
    Classes(Chart),
    Panels(panels::Panels),
}

/// The pictures that there are rows for.
pub(super) fn pictures(summary: &Summary) -> Vec<Picture> {
    let mut pictures = vec![Picture {
        file: "accuracy.png",
        caption: "Accuracy against the worker's tokens of an item: up and to the left is better.".to_owned(),
        what: What::Scatter(scatter::dots(summary)),
    }];
    let mut add = |file, caption: String, chart: Chart| {
        if !chart.is_empty() {
            pictures.push(Picture { file, caption, what: What::Classes(chart) });
        }
    };
    let savings = by_class(summary, &["length", "difficulty"], "worker tokens saved", |f| f.reduction);
    let what = "Worker tokens saved against text replay, by length and difficulty.";
    add("savings.png", what.to_owned(), savings);
    let overhead = by_class(summary, &["positions"], "overhead, share of reading time", |f| {
        f.overhead.filter(|o| o.high > 0.0)
    });
    let what =
        "Time of briefings over the time that text replay takes to read, by positions of the trajectory.";
    add("overhead.png", what.to_owned(), overhead);
    if let Some((name, chart)) = keep_ratio(summary) {
        let what = format!(
            "Share of the trajectory that is kept, by the setting of {name} and the document's length."
        );
        add("keep_ratio.png", what, chart);
    }
    if let Some(panels) = panels::panels(summary) {
        let what = format!("Accuracy by {}, in each class.", panels.x);
        pictures.push(Picture { file: "accuracy_by_size.png", caption: what, what: What::Panels(panels) });
    }
    pictures
}

fn by_class(
    summary: &Summary,
    axes: &[&str],
    label: &'static str,
    figure: fn(&Figures) -> Option<Interval>,
) -> Chart {
    let groups: Vec<_> =
        axes.iter().flat_map(|a| summary.groups.iter().filter(move |g| g.axis == *a)).collect();
    let series = summary.conditions.iter().zip(lines(summary)).map(|(f, (index, name))| {
        let of = |g: &&Group| g.conditions.iter().find(|c| c.condition == f.condition).and_then(figure);
        Series { index, name, values: groups.iter().map(of).collect() }
    });
    let categories = groups.iter().map(|g| g.value.clone()).collect();
    let x = if axes.contains(&"positions") { "positions of the trajectory, template counted in" } else { "" };
    Chart { categories, series: series.collect(), x: x.to_owned(), y: label, lines: false }.without_empty()
}

/// One line per length class over the values of the largest family.
fn keep_ratio(summary: &Summary) -> Option<(String, Chart)> {
    let families = families(summary);
    let (name, mut members) = families.into_iter().rev().max_by_key(|(name, m)| weight(name, m.len()))?;
    members.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = |conditions: &[Figures]| -> Vec<Option<Interval>> {
        let of = |c: &str| conditions.iter().find(|f| f.condition == c).and_then(|f| f.keep_ratio);
        members.iter().map(|(_, c)| of(c)).collect()
    };
    let mut lines: Vec<(String, Vec<Option<Interval>>)> = summary
        .groups
        .iter()
        .filter(|g| g.axis == "length")
        .map(|g| (g.value.clone(), line(&g.conditions)))
        .collect();
    if lines.is_empty() {
        lines.push(("all lengths".to_owned(), line(&summary.conditions)));
    }
    let series = lines.into_iter().enumerate().map(|(index, (name, values))| Series { index, name, values });
    let categories = members.iter().map(|(value, _)| value.to_string()).collect();
    let x = variable(&name).to_owned();
    let chart = Chart { categories, series: series.collect(), x, y: "share kept, median", lines: true };
    Some((name, chart.without_empty()))
}

/// What the families of one variable differ in: `keep` of `bm25:keep=*`.
fn variable(family: &str) -> &str {
    let before = family.split("=*").next().unwrap_or(family);
    before.rsplit([':', ',']).next().unwrap_or(before)
}

/// Draws `picture`; the file is written whole or not at all.
pub(super) fn draw(picture: &Picture, path: &Path) -> Result<()> {
    let size = if let What::Panels(panels) = &picture.what { panels.size() } else { SIZE };
    picture::write(path, size, |root| match &picture.what {
        What::Scatter(dots) => scatter::draw(root, dots),
        What::Classes(chart) => classes::draw(root, chart),
        What::Panels(panels) => panels::draw(root, panels),
    })
}

/// A mark at a pixel of `area`: a disc, and for series after the palette's end a ring, a square, a triangle.
fn put_mark(area: &Area<'_>, at: (i32, i32), index: usize) -> Drawn {
    let colour = colour(index);
    let (x, y) = at;
    let corners = match index / COLOURS.len() {
        0 => return area.draw(&Circle::new(at, 9, colour.filled())).map_err(say),
        1 => return area.draw(&Circle::new(at, 8, colour.stroke_width(4))).map_err(say),
        2 => vec![(x - 8, y - 8), (x + 8, y - 8), (x + 8, y + 8), (x - 8, y + 8), (x - 8, y - 8)],
        _ => vec![(x, y - 10), (x + 9, y + 7), (x - 9, y + 7), (x, y - 10)],
    };
    area.draw(&PathElement::new(corners, colour.stroke_width(4))).map_err(say)
}

/// A straight stroke between pixels of `area`.
fn stroke(area: &Area<'_>, from: (i32, i32), to: (i32, i32), index: usize, width: u32) -> Drawn {
    area.draw(&PathElement::new(vec![from, to], colour(index).stroke_width(width))).map_err(say)
}

/// One line for each number.
fn legend(area: &Area<'_>, names: &[(usize, &str)]) -> Drawn {
    let (_, height) = area.dim_in_pixel();
    let mut seen = BTreeSet::new();
    let names: Vec<_> = names.iter().filter(|(index, _)| seen.insert(*index)).collect();
    let step = (height.saturating_sub(120) / names.len().max(1) as u32).clamp(18, 42).cast_signed();
    let font = f64::from(step.clamp(16, 26)).min(25.0);
    for ((index, name), row) in names.into_iter().zip(0..) {
        let y = 60 + row * step;
        put_mark(area, (18, y), *index)?;
        let shown: String = name.chars().take(42).collect();
        let style = ("sans-serif", font).into_font().color(&INK);
        area.draw(&Text::new(shown, (38, y - (font / 2.0) as i32), style)).map_err(say)?;
    }
    Ok(())
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}
