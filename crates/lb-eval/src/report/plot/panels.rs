//! Accuracy against the number that a family of settings differs in: a panel for each class, a line for each family.

use plotters::prelude::*;

use super::{Area, Drawn, FAINT, INK, LEGEND, colour, legend, percent, put_mark, say, stroke, variable};
use crate::answers::{CELLS, Figures, Group, Summary};
use crate::report::families::{families, lines};

/// Pixels of a panel, in height.
const HEIGHT: u32 = 400;
const WIDTH: u32 = 1920;
/// Below 0, so that marks there are whole.
const FLOOR: f64 = -0.05;
/// Panels of a row at most.
const ACROSS: usize = 4;

pub(in crate::report) struct Panels {
    /// What the families differ in.
    pub(super) x: String,
    /// From left to right, of all families.
    values: Vec<f64>,
    /// Names of families, with what decides their colours.
    names: Vec<(usize, String)>,
    across: usize,
    cells: Vec<Panel>,
}

struct Panel {
    title: String,
    /// By family, and there by value.
    lines: Vec<Vec<Option<[f64; 3]>>>,
    reference: Option<f64>,
}

/// The panels of the variable that most families share, by kind and length, or by one of them; `None` where there is
/// none, or one family alone.
pub(super) fn panels(summary: &Summary) -> Option<Panels> {
    let all = families(summary);
    let count = |x: &str| all.iter().filter(|(name, _)| variable(name) == x).count();
    let x = all.iter().map(|(name, _)| variable(name)).max_by_key(|x| count(x)).filter(|x| count(x) > 1)?;
    let of_variable: Vec<_> = all.iter().filter(|(name, _)| variable(name) == x).collect();
    let mut values: Vec<f64> =
        of_variable.iter().flat_map(|(_, m)| m.iter().map(|(value, _)| *value)).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let on = |axis: &str| -> Vec<&Group> { summary.groups.iter().filter(|g| g.axis == axis).collect() };
    let (cells, lengths) = (on(CELLS), on("length"));
    let groups = [&cells, &on("kind"), &lengths].into_iter().find(|groups| groups.len() > 1).cloned();
    let panel = |title: &str, figures: &[Figures]| Panel {
        title: title.to_owned(),
        lines: of_variable
            .iter()
            .map(|(_, members)| {
                let at = |value: &f64| {
                    let (_, condition) = members.iter().find(|(own, _)| own.total_cmp(value).is_eq())?;
                    let f = figures.iter().find(|f| f.condition == *condition)?;
                    Some([f.accuracy, f.accuracy_ci[0], f.accuracy_ci[1]])
                };
                values.iter().map(at).collect()
            })
            .collect(),
        reference: figures.iter().find(|f| f.condition == summary.reference).map(|f| f.accuracy),
    };
    let panels = match &groups {
        Some(groups) => groups.iter().map(|g| panel(&g.value, &g.conditions)).collect(),
        None => vec![panel("", &summary.conditions)],
    };
    let by_length = !cells.is_empty() && lengths.len() <= ACROSS;
    let across = if by_length { lengths.len() } else { groups.map_or(1, |groups| groups.len().min(ACROSS)) };
    let numbers = lines(summary);
    let number =
        |name: &String| numbers.iter().find(|(_, other)| other == name).map_or(0, |(index, _)| *index);
    let names = of_variable.iter().map(|(name, _)| (number(name), name.clone())).collect();
    Some(Panels { x: x.to_owned(), values, names, across, cells: panels })
}

impl Panels {
    fn rows(&self) -> usize {
        self.cells.len().div_ceil(self.across)
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (WIDTH, (self.rows() as u32 * HEIGHT).max(960))
    }
}

pub(super) fn draw(root: &Area<'_>, panels: &Panels) -> Drawn {
    root.fill(&WHITE).map_err(say)?;
    let (plot, names) = root.split_horizontally(WIDTH - LEGEND);
    for (panel, area) in panels.cells.iter().zip(plot.split_evenly((panels.rows(), panels.across))) {
        draw_panel(&area, panel, panels)?;
    }
    let named: Vec<(usize, &str)> = panels.names.iter().map(|(i, n)| (*i, n.as_str())).collect();
    legend(&names, &named)
}

fn draw_panel(area: &Area<'_>, panel: &Panel, panels: &Panels) -> Drawn {
    let n = panels.values.len();
    let title = ("sans-serif", 26).into_font().color(&INK);
    let mut context = ChartBuilder::on(area)
        .margin(16)
        .caption(&panel.title, title)
        .x_label_area_size(64)
        .y_label_area_size(78)
        .build_cartesian_2d(0.0..n as f64, FLOOR..1.03)
        .map_err(say)?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .label_style(("sans-serif", 22).into_font().color(&INK))
        .y_label_formatter(&|y| percent(*y))
        .y_labels(5)
        .bold_line_style(FAINT)
        .light_line_style(WHITE)
        .draw()
        .map_err(say)?;
    if let Some(at) = panel.reference {
        let line = DashedLineSeries::new([(0.0, at), (n as f64, at)], 10, 8, INK.stroke_width(2));
        context.draw_series(line).map_err(say)?;
    }
    let base = area.get_base_pixel();
    let pixel = |x: f64, y: f64| {
        let (x, y) = context.backend_coord(&(x, y));
        (x - base.0, y - base.1)
    };
    let below = |x: f64, gap: i32, text: String| {
        use plotters::style::text_anchor::{HPos, Pos, VPos};
        let style = ("sans-serif", 22).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
        let (x, y) = pixel(x, FLOOR);
        area.draw(&Text::new(text, (x, y + gap), style)).map_err(say)
    };
    for (at, value) in panels.values.iter().enumerate() {
        below(at as f64 + 0.5, 8, value.to_string())?;
    }
    below(n as f64 / 2.0, 36, panels.x.clone())?;
    for (at, (line, (index, _))) in panel.lines.iter().zip(&panels.names).enumerate() {
        let index = *index;
        let offset = 0.5 + 0.3 * ((at as f64 + 0.5) / panels.names.len() as f64 - 0.5);
        let points = || line.iter().enumerate().filter_map(|(at, v)| v.map(|v| (at as f64 + offset, v)));
        let path: Vec<_> = points().map(|(x, [y, ..])| pixel(x, y)).collect();
        area.draw(&PathElement::new(path, colour(index).stroke_width(3))).map_err(say)?;
        for (x, [y, low, high]) in points() {
            stroke(area, pixel(x, low), pixel(x, high), index, 2)?;
            put_mark(area, pixel(x, y), index)?;
        }
    }
    Ok(())
}
