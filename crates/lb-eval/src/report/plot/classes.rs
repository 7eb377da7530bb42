//! A figure of several series over classes, point by point with intervals.

use plotters::prelude::*;

use super::{Area, Drawn, FAINT, INK, LEGEND, SIZE, colour, legend, percent, put_mark, say, stroke};
use crate::stats::bootstrap::Interval;

pub(in crate::report) struct Chart {
    /// From left to right.
    pub(super) categories: Vec<String>,
    /// With a value for each category.
    pub(super) series: Vec<Series>,
    pub(super) x: String,
    pub(super) y: &'static str,
    /// Joined by lines, where categories are steps of one number.
    pub(super) lines: bool,
}

/// One line of a legend.
#[derive(Clone)]
pub(super) struct Series {
    /// Decides colour and mark.
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) values: Vec<Option<Interval>>,
}

impl Chart {
    pub(super) fn without_empty(mut self) -> Self {
        self.series.retain(|s| s.values.iter().any(Option::is_some));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty() || self.categories.is_empty()
    }

    fn ends(&self) -> (f64, f64) {
        let all = self.series.iter().flat_map(|s| s.values.iter().flatten()).flat_map(|i| [i.low, i.high]);
        let (low, high) = all.fold((0.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        let room = 0.06 * (high - low).max(0.01);
        (if low < 0.0 { low - room } else { 0.0 }, high + room)
    }
}

pub(super) fn draw(root: &Area<'_>, chart: &Chart) -> Drawn {
    root.fill(&WHITE).map_err(say)?;
    let (plot, names) = root.split_horizontally(SIZE.0 - LEGEND);
    let n = chart.categories.len();
    let (low, high) = chart.ends();
    let mut context = ChartBuilder::on(&plot)
        .margin(24)
        .x_label_area_size(90)
        .y_label_area_size(120)
        .build_cartesian_2d(0.0..n as f64, low..high)
        .map_err(say)?;
    let fine = high - low < 0.08;
    context
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_desc(chart.y)
        .label_style(("sans-serif", 25).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 27).into_font().color(&INK))
        .y_label_formatter(&|y| if fine { format!("{:.1} %", 100.0 * y) } else { percent(*y) })
        .y_labels(8)
        .bold_line_style(FAINT)
        .light_line_style(WHITE)
        .draw()
        .map_err(say)?;
    let base = plot.get_base_pixel();
    let pixel = |x: f64, y: f64| {
        let (x, y) = context.backend_coord(&(x, y));
        (x - base.0, y - base.1)
    };
    axis(&plot, chart, &pixel, low, high)?;
    series(&plot, chart, &pixel)?;
    let named: Vec<(usize, &str)> = chart.series.iter().map(|s| (s.index, s.name.as_str())).collect();
    legend(&names, &named)
}

type Pixel<'a> = &'a dyn Fn(f64, f64) -> (i32, i32);

/// Names under the categories and thin lines between them.
fn axis(plot: &Area<'_>, chart: &Chart, pixel: Pixel<'_>, low: f64, high: f64) -> Drawn {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let style = |size: i32| {
        let middle = Pos::new(HPos::Center, VPos::Top);
        ("sans-serif", size).into_font().color(&INK).pos(middle)
    };
    for (at, name) in chart.categories.iter().enumerate() {
        let (x, y) = pixel(at as f64 + 0.5, low);
        plot.draw(&Text::new(name.clone(), (x, y + 12), style(25))).map_err(say)?;
        if at > 0 && !chart.lines {
            let ends = vec![pixel(at as f64, low), pixel(at as f64, high)];
            plot.draw(&PathElement::new(ends, FAINT.stroke_width(2))).map_err(say)?;
        }
    }
    let (x, y) = pixel(chart.categories.len() as f64 / 2.0, low);
    plot.draw(&Text::new(chart.x.clone(), (x, y + 50), style(27))).map_err(say)
}

fn series(plot: &Area<'_>, chart: &Chart, pixel: Pixel<'_>) -> Drawn {
    let count = chart.series.len() as f64;
    let spread = if chart.lines { 0.12 } else { 0.8 };
    for (at, Series { index, values, .. }) in chart.series.iter().enumerate() {
        let offset = 0.5 + spread * ((at as f64 + 0.5) / count - 0.5);
        let points: Vec<(f64, &Interval)> = values
            .iter()
            .enumerate()
            .filter_map(|(at, v)| v.as_ref().map(|v| (at as f64 + offset, v)))
            .collect();
        if chart.lines {
            let line = points.iter().map(|(x, v)| pixel(*x, v.estimate)).collect::<Vec<_>>();
            plot.draw(&PathElement::new(line, colour(*index).stroke_width(3))).map_err(say)?;
        }
        for (x, v) in points {
            stroke(plot, pixel(x, v.low), pixel(x, v.high), *index, 3)?;
            put_mark(plot, pixel(x, v.estimate), *index)?;
        }
    }
    Ok(())
}
