//! The heat map as one self-contained page.

use lb_io::shown::visible;
use lb_model::Worker;
use lb_session::Briefing;
use minijinja::{AutoEscape, Environment, context};

use super::{PALETTE, heat};
use crate::{Error, Result};

const PAGE: &str = include_str!("heat_map.html.jinja");

/// A page that shows every token of the trajectory, kept ones coloured by score, with the task and `answer`. All text
/// is escaped; the page loads nothing.
///
/// # Errors
/// [`Error::Page`] should the page's template fail, which would be a bug of ours.
pub fn heat_map(briefing: &Briefing, worker: &Worker, answer: &str) -> Result<String> {
    let positions = briefing.explain(worker);
    let heat = heat(&positions);
    let tokens: Vec<_> = positions
        .iter()
        .zip(heat)
        .enumerate()
        .map(|(slot, (p, heat))| {
            let score = format!("{:.2e}", p.score);
            context! { piece => visible(&p.piece), kept => p.kept, kept_by => format!("{:.0}", 100.0 * p.kept_by), heat => format!("{heat:.3}"), score, slot }
        })
        .collect();
    let mask = &briefing.report().mask;
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = environment.add_template("palette", PALETTE).and_then(|()| {
        environment.render_named_str(
            "heat_map.html",
            PAGE,
            context! {
                question => visible(&briefing.task().question),
                slice => briefing.task().slice.as_deref(),
                answer => visible(answer),
                model => visible(worker.name()),
                kept_len => briefing.kept_len(),
                seq_len => briefing.seq_len(),
                percent => format!("{:.1}", 100.0 * briefing.keep_ratio()),
                median => format!("{:.2e}", mask.median),
                mad => format!("{:.2e}", mask.mad),
                brief_ms => format!("{:.1}", briefing.timing().total().as_secs_f64() * 1e3),
                tokens,
            },
        )
    });
    page.map_err(|e| Error::Page(Box::new(e)))
}
