//! The figures in a table.

use super::plan::TrainedPlan;
use super::row::{Stage, TrainedRow};
use crate::stats::bootstrap::{Bootstrap, interval};
use crate::stats::median;
use crate::table::{Column, Table};

/// A briefing after some steps, over all rows.
struct Line<'a> {
    briefing: &'a str,
    at: Vec<(&'a TrainedRow, Stage)>,
    /// The same trajectories before the first step.
    start: Vec<(&'a TrainedRow, Stage)>,
}

/// One line for each briefing and number of steps. Rows that failed are left out. Intervals resample trajectories.
pub fn table(plan: &TrainedPlan, rows: &[TrainedRow]) -> String {
    let good: Vec<&TrainedRow> = rows.iter().filter(|row| row.failure.is_none()).collect();
    let mut lines = Vec::new();
    for (number, briefing) in plan.briefings.iter().enumerate() {
        let at = |place: usize| good.iter().map(|row| (*row, row.briefings[number][place])).collect();
        for place in 0..plan.steps.len() {
            lines.push(Line { briefing, at: at(place), start: at(0) });
        }
    }
    let mut columns: Vec<Column<'_, Line<'_>>> = vec![
        ("briefing", &|l| l.briefing.to_owned()),
        ("steps", &|l| l.at.first().map_or(0, |(_, stage)| stage.steps).to_string()),
        ("retained, its task", &|l| shown(retained(&l.at, own))),
        ("against the start (95 %)", &|l| against(l, own)),
        ("retained, other tasks", &|l| shown(retained(&l.at, other))),
        ("against the start (95 %)", &|l| against(l, other)),
        ("KL on lessons", &|l| {
            format!("{:.3}", l.at.iter().map(|(_, s)| s.lessons).sum::<f64>() / l.at.len().max(1) as f64)
        }),
        ("brief / lessons / steps, ms", &|l| {
            format!(
                "{:.0} / {:.0} / {:.0}",
                middle(l, |s| s.brief_ms),
                middle(l, |s| s.lessons_ms),
                middle(l, |s| s.train_ms)
            )
        }),
    ];
    if good.iter().all(|row| row.others == 0) {
        columns.drain(4..6);
    }
    Table::of(&lines, &columns).to_string()
}

/// Over the rows of a line.
fn middle(line: &Line<'_>, of: fn(&Stage) -> f64) -> f64 {
    median(line.at.iter().map(|(_, stage)| of(stage)))
}

/// Nats a token of one kind of target: over the full cache, without the trajectory, over the briefing.
type Kind = fn(&TrainedRow, &Stage) -> [f64; 3];

fn own(row: &TrainedRow, stage: &Stage) -> [f64; 3] {
    [row.own[0], row.own[1], stage.own]
}

fn other(row: &TrainedRow, stage: &Stage) -> [f64; 3] {
    [row.other[0], row.other[1], stage.other]
}

/// With sums over trajectories.
fn retained(at: &[(&TrainedRow, Stage)], kind: Kind) -> f64 {
    let sums = at.iter().fold([0.0; 3], |sums, (row, stage)| {
        let own = kind(row, stage);
        [sums[0] + own[0], sums[1] + own[1], sums[2] + own[2]]
    });
    let worth = sums[1] - sums[0];
    if worth > 0.0 { 1.0 - (sums[2] - sums[0]) / worth } else { f64::NAN }
}

fn shown(retained: f64) -> String {
    if retained.is_nan() { "none to retain".to_owned() } else { format!("{retained:.3}") }
}

fn against(line: &Line<'_>, kind: Kind) -> String {
    let drawn = |of: &[(&'_ TrainedRow, Stage)], numbers: &[usize]| {
        let some: Vec<_> = numbers.iter().map(|number| of[*number]).collect();
        retained(&some, kind)
    };
    let minus = |numbers: &[usize]| drawn(&line.at, numbers) - drawn(&line.start, numbers);
    if line.at.first().is_none_or(|(_, stage)| stage.steps == 0) {
        return String::new();
    }
    match interval(line.at.len(), &Bootstrap::default(), minus) {
        Ok(figure) => format!("{:+.3} ({:+.3} to {:+.3})", figure.estimate, figure.low, figure.high),
        Err(_) => String::new(),
    }
}
