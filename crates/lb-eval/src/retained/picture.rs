//! What is retained against what it costs, one line for each way at all its sizes.

use std::path::Path;

use plotters::prelude::*;

use super::summary::{ConditionSummary, RetainedSummary};
use crate::Result;
use crate::picture::{self, Area, Drawn, FAINT, INK, colour, say};

/// Pixels; twice what a page shows.
const WIDTH: i32 = 2200;
const HEIGHT: i32 = 1000;
const LEGEND: i32 = 44;

/// One way of handing over, at each of its sizes.
struct Line<'a> {
    name: String,
    points: Vec<&'a ConditionSummary>,
}

/// Draws what each condition retains, with its interval, against the share of the cache's bytes that it keeps and against the
/// worker's tokens; the file is written whole or not at all. Conditions that differ in `keep=` alone are one line.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) names the file; [`Error::Plot`](crate::Error::Plot).
pub fn picture(summary: &RetainedSummary, path: &Path) -> Result<()> {
    let lines = lines(summary);
    let size = (WIDTH.cast_unsigned(), HEIGHT.cast_unsigned());
    picture::write(path, size, |root| {
        root.fill(&WHITE).map_err(say)?;
        let rows: i32 = lines.chunks(2).map(|_| 1).sum();
        let (plots, names) = root.split_vertically(HEIGHT - LEGEND * rows - 16);
        let (left, right) = plots.split_horizontally(WIDTH / 2);
        panel(&left, &lines, "share of the cache's bytes that is kept", &|c| 100.0 * c.kept, true)?;
        panel(&right, &lines, "tokens in the worker's context", &|c| c.worker_tokens, false)?;
        legend(&names, &lines)
    })
}

/// Without what keeps everything or nothing: those are 1 and 0.
fn lines(summary: &RetainedSummary) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for condition in &summary.conditions {
        if condition.kept <= 0.0 || condition.kept >= 1.0 || condition.retained.is_none() {
            continue;
        }
        let name = family(&condition.handoff);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(condition),
            None => lines.push(Line { name, points: vec![condition] }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.kept.total_cmp(&b.kept));
    }
    lines
}

/// The condition without its size.
fn family(handoff: &str) -> String {
    let (name, arguments) = handoff.split_once(':').unwrap_or((handoff, ""));
    let rest: Vec<&str> = arguments
        .split(',')
        .filter(|argument| !argument.is_empty() && !argument.starts_with("keep="))
        .filter(|argument| argument.trim_end_matches('t').parse::<f64>().is_err())
        .collect();
    if rest.is_empty() { name.to_owned() } else { format!("{name}: {}", rest.join(", ")) }
}

type Of<'a> = &'a dyn Fn(&ConditionSummary) -> f64;

fn panel(area: &Area<'_>, lines: &[Line<'_>], what: &str, of: Of<'_>, percent: bool) -> Drawn {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (left, right) = ends(&mut points().map(of));
    if left > right {
        return Ok(());
    }
    let low_of = |c: &ConditionSummary| c.ci95.map_or(c.retained.unwrap_or(0.0), |[low, _]| low);
    let (low, _) = ends(&mut points().map(low_of));
    let (low, high) = (low.clamp(-0.5, 0.0), 1.12);
    let mut chart = ChartBuilder::on(area)
        .margin(24)
        .x_label_area_size(84)
        .y_label_area_size(110)
        .build_cartesian_2d((left * 0.8).ln()..(right * 1.25).ln(), low..high)
        .map_err(say)?;
    // Logarithms lie on the axis, so that ticks stand at even factors whatever the range is.
    let amount = |x: &f64| if percent { format!("{:.1} %", x.exp()) } else { format!("{:.0}", x.exp()) };
    let kept = |y: &f64| format!("{y:.1}");
    chart
        .configure_mesh()
        .x_desc(what)
        .y_desc("retained")
        .x_label_formatter(&amount)
        .y_label_formatter(&kept)
        .x_labels(6)
        .y_labels(8)
        .label_style(("sans-serif", 25).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 27).into_font().color(&INK))
        .bold_line_style(FAINT)
        .light_line_style(WHITE)
        .draw()
        .map_err(say)?;
    for (index, line) in lines.iter().enumerate() {
        let style = colour(index).stroke_width(4);
        let at = |c: &&ConditionSummary| (of(c).ln(), c.retained.unwrap_or(0.0));
        chart.draw_series(LineSeries::new(line.points.iter().map(at), style)).map_err(say)?;
        for point in &line.points {
            let (x, y) = at(point);
            if let Some([low, high]) = point.ci95 {
                let bar = PathElement::new(vec![(x, low), (x, high)], colour(index).stroke_width(2));
                chart.draw_series([bar]).map_err(say)?;
            }
            chart.draw_series([Circle::new((x, y), 8, colour(index).filled())]).map_err(say)?;
        }
    }
    Ok(())
}

/// Two columns of names under the panels.
fn legend(area: &Area<'_>, lines: &[Line<'_>]) -> Drawn {
    for ((index, line), number) in lines.iter().enumerate().zip(0i32..) {
        let x = 130 + number % 2 * (WIDTH / 2);
        let y = number / 2 * LEGEND;
        let stroke = vec![(x, y + 16), (x + 60, y + 16)];
        area.draw(&PathElement::new(stroke, colour(index).stroke_width(6))).map_err(say)?;
        let style = ("sans-serif", 27).into_font().color(&INK);
        area.draw(&Text::new(line.name.clone(), (x + 76, y), style)).map_err(say)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::family;

    #[test]
    fn sizes_of_one_way_are_one_line() {
        assert_eq!(family("latent-briefing:keep=0.1"), "latent-briefing");
        assert_eq!(family("latent-briefing:keep=0.1,echo=128"), "latent-briefing: echo=128");
        assert_eq!(family("recent:0.1"), "recent");
        assert_eq!(family("bm25:64t,passage=40"), "bm25: passage=40");
        assert_eq!(family("none"), "none");
    }
}
