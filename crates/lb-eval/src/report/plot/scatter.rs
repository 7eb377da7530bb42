//! Accuracy against worker tokens.

use plotters::prelude::*;

use super::{Area, Drawn, FAINT, INK, LEGEND, SIZE, colour, legend, percent, put_mark, say, stroke};
use crate::answers::{Figures, Summary};
use crate::report::families::lines;

pub(in crate::report) struct Dot {
    /// Conditions of one family share it.
    index: usize,
    name: String,
    tokens: [f64; 3],
    accuracy: [f64; 3],
    reference: bool,
}

pub(super) fn dots(summary: &Summary) -> Vec<Dot> {
    let dot = |(f, (index, name)): (&Figures, (usize, String))| Dot {
        index,
        name,
        tokens: [f.worker_mean.estimate, f.worker_mean.low, f.worker_mean.high].map(|t| t.max(1.0)),
        accuracy: [f.accuracy, f.accuracy_ci[0], f.accuracy_ci[1]],
        reference: f.condition == summary.reference,
    };
    summary.conditions.iter().zip(lines(summary)).map(dot).collect()
}

pub(super) fn draw(root: &Area<'_>, dots: &[Dot]) -> Drawn {
    root.fill(&WHITE).map_err(say)?;
    let (plot, names) = root.split_horizontally(SIZE.0 - LEGEND);
    let ends = |of: fn(&Dot) -> [f64; 3]| {
        let all = dots.iter().flat_map(&of);
        all.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((left, right), (low, high)) = (ends(|d| d.tokens), ends(|d| d.accuracy));
    let mut chart = ChartBuilder::on(&plot)
        .margin(24)
        .x_label_area_size(80)
        .y_label_area_size(110)
        .build_cartesian_2d(
            (left * 0.85..right * 1.18).log_scale(),
            (low - 0.03).max(0.0)..(high + 0.03).min(1.01),
        )
        .map_err(say)?;
    chart
        .configure_mesh()
        .x_desc("worker tokens of an item, mean (log scale)")
        .y_desc("accuracy")
        .label_style(("sans-serif", 25).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 27).into_font().color(&INK))
        .x_label_formatter(&|x| tick(*x, right / left > 8.0))
        .y_label_formatter(&|y| percent(*y))
        .y_labels(8)
        .bold_line_style(FAINT)
        .light_line_style(WHITE)
        .draw()
        .map_err(say)?;
    if let Some(reference) = dots.iter().find(|d| d.reference) {
        let at = reference.accuracy[0];
        let line = DashedLineSeries::new([(left * 0.85, at), (right * 1.18, at)], 10, 8, INK.stroke_width(2));
        chart.draw_series(line).map_err(say)?;
    }
    let (left, top) = plot.get_base_pixel();
    let pixel = |x: f64, y: f64| {
        let (x, y) = chart.backend_coord(&(x, y));
        (x - left, y - top)
    };
    let families = dots.iter().map(|dot| dot.index).max().unwrap_or(0);
    for index in 0..=families {
        let mut path: Vec<_> = dots.iter().filter(|dot| dot.index == index).collect();
        path.sort_by(|a, b| a.tokens[0].total_cmp(&b.tokens[0]));
        let path: Vec<_> = path.into_iter().map(|dot| pixel(dot.tokens[0], dot.accuracy[0])).collect();
        plot.draw(&PathElement::new(path, colour(index).stroke_width(2))).map_err(say)?;
    }
    for dot in dots {
        let ([x, x0, x1], [y, y0, y1]) = (dot.tokens, dot.accuracy);
        stroke(&plot, pixel(x, y0), pixel(x, y1), dot.index, 2)?;
        stroke(&plot, pixel(x0, y), pixel(x1, y), dot.index, 2)?;
        put_mark(&plot, pixel(x, y), dot.index)?;
    }
    let mut named: Vec<&Dot> = dots.iter().collect();
    named.sort_by(|a, b| b.accuracy[0].total_cmp(&a.accuracy[0]));
    let label = |d: &Dot| if d.reference { format!("{} (dashed)", d.name) } else { d.name.clone() };
    let named: Vec<(usize, String)> = named.into_iter().map(|d| (d.index, label(d))).collect();
    let named: Vec<(usize, &str)> = named.iter().map(|(i, n)| (*i, n.as_str())).collect();
    legend(&names, &named)
}

/// Of a wide range the 1, 2 and 5 of each decade; the others would run into each other.
fn tick(tokens: f64, wide: bool) -> String {
    let leading = tokens / 10f64.powf(tokens.log10().floor());
    let shown = !wide || [1.0, 2.0, 5.0, 10.0].iter().any(|digit| (leading - digit).abs() < 1e-6);
    if shown { crate::report::cells::thousands(tokens) } else { String::new() }
}
