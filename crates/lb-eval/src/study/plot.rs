//! Error and accuracy against keep ratio, as a picture.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Method;
use super::figures::{Figure, methods};
use crate::picture::colour;
use crate::{Error, Result};

const SIZE: (u32, u32) = (1800, 820);
/// Draws error against keep ratio on the left and accuracy against it on the right; `strong` methods in strong
/// lines. The file is written whole or not at all.
///
/// # Errors
/// [`Error::Plot`] for figures without a size, [`Error::Io`] names the file.
pub fn draw(figures: &[Figure], strong: &[Method], path: &Path) -> Result<()> {
    let names: Vec<String> = strong.iter().map(Method::name).collect();
    let ours: Vec<&str> = names.iter().map(String::as_str).collect();
    if !figures.iter().any(|f| f.asked > 0.0) {
        return Err(Error::Plot { reason: "there is no method that was run at several sizes".to_owned() });
    }
    crate::picture::write(path, SIZE, |root| panels(root, figures, &ours))
}

fn panels(
    root: &DrawingArea<BitMapBackend<'_>, Shift>,
    figures: &[Figure],
    ours: &[&str],
) -> std::result::Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    root.fill(&WHITE).map_err(|e| say(&e))?;
    let (left, rest) = root.split_horizontally(760);
    let (right, legend) = rest.split_horizontally(760);
    let full = figures.iter().find(|f| f.method == "full cache").map(|f| f.accuracy);
    panel(&left, figures, ours, "Error of the attention output, held-out queries", None, |f| f.error)?;
    panel(&right, figures, ours, "Accuracy, exact answers", full, |f| f.accuracy)?;
    names(&legend, figures, ours)
}

fn style(index: usize, own: bool) -> ShapeStyle {
    let width = if own { 5 } else { 2 };
    colour(index).mix(if own { 1.0 } else { 0.75 }).stroke_width(width)
}

fn panel(
    area: &DrawingArea<BitMapBackend<'_>, Shift>,
    figures: &[Figure],
    ours: &[&str],
    title: &str,
    full: Option<f64>,
    value: fn(&Figure) -> f64,
) -> std::result::Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let sized: Vec<&Figure> = figures.iter().filter(|f| f.asked > 0.0).collect();
    let least = sized.iter().map(|f| f.asked).fold(f64::INFINITY, f64::min);
    let most = sized.iter().map(|f| f.asked).fold(0.0, f64::max);
    let highest = sized.iter().map(|f| value(f)).chain(full).fold(0.0, f64::max) * 1.08;
    let highest = if full.is_some() { highest.min(1.02) } else { highest.min(1.5) };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 30))
        .margin(18)
        .x_label_area_size(64)
        .y_label_area_size(72)
        .build_cartesian_2d((least * 0.9..most * 1.1).log_scale(), 0.0..highest)
        .map_err(|e| say(&e))?;
    chart
        .configure_mesh()
        .x_desc("keep ratio (log scale)")
        .label_style(("sans-serif", 22))
        .axis_desc_style(("sans-serif", 24))
        .x_label_formatter(&|x| tick(*x))
        .y_label_formatter(&|y| format!("{y:.1}"))
        .light_line_style(WHITE)
        .draw()
        .map_err(|e| say(&e))?;
    if let Some(full) = full {
        let dashes = DashedLineSeries::new([(least, full), (most, full)], 10, 8, BLACK.stroke_width(2));
        chart.draw_series(dashes).map_err(|e| say(&e))?;
    }
    for (index, method) in methods(figures).into_iter().enumerate() {
        let style = style(index, ours.contains(&method));
        let mut points: Vec<(f64, f64)> =
            sized.iter().filter(|f| f.method == method).map(|f| (f.asked, value(f))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let dots = points.iter().map(|point| Circle::new(*point, 4, style.filled()));
        chart.draw_series(dots.collect::<Vec<_>>()).map_err(|e| say(&e))?;
        chart.draw_series(LineSeries::new(points, style)).map_err(|e| say(&e))?;
    }
    Ok(())
}

/// 1, 2 and 5 of each decade; the others would run into each other.
fn tick(ratio: f64) -> String {
    let percent = 100.0 * ratio;
    let leading = percent / 10f64.powf(percent.log10().floor());
    let shown = [1.0, 2.0, 5.0, 10.0].iter().any(|digit| (leading - digit).abs() < 1e-6);
    if shown { format!("{} %", (percent * 10.0).round() / 10.0) } else { String::new() }
}

fn names(
    area: &DrawingArea<BitMapBackend<'_>, Shift>,
    figures: &[Figure],
    ours: &[&str],
) -> std::result::Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    for ((index, method), y) in methods(figures).into_iter().enumerate().zip((80..).step_by(36)) {
        let full = method == "full cache";
        let style = if full { BLACK.stroke_width(2) } else { style(index, ours.contains(&method)) };
        area.draw(&PathElement::new(vec![(6, y), (44, y)], style)).map_err(|e| say(&e))?;
        let name = if full { "full cache (dashed)" } else { method };
        let font = ("sans-serif", 22).into_font().color(&BLACK);
        area.draw(&Text::new(name.to_owned(), (54, y - 11), font)).map_err(|e| say(&e))?;
    }
    Ok(())
}
