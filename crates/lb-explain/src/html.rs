//! The heat map as one self-contained page.

use std::collections::BTreeSet;

use lb_io::shown::visible;
use lb_model::Worker;
use lb_session::{Briefing, Position, Renewed};
use minijinja::{AutoEscape, Environment, Value, context};

use super::{PALETTE, heat};
use crate::{Error, Result};

const PAGE: &str = include_str!("heat_map.html.jinja");

/// A page that shows every token of the trajectory, kept ones coloured by score, with the task and `answer`. All text
/// is escaped; the page loads nothing.
///
/// # Errors
/// [`Error::Page`] should the page's template fail, which would be a bug of ours.
pub fn heat_map(briefing: &Briefing, worker: &Worker, answer: &str) -> Result<String> {
    renewed_heat_map(briefing, &[], worker, answer)
}

/// The same of a briefing that was renewed while `answer` was written: what each renewal brought in is listed, and marked in the
/// text.
///
/// # Errors
/// Those of [`heat_map`].
pub fn renewed_heat_map(
    briefing: &Briefing,
    renewals: &[Renewed],
    worker: &Worker,
    answer: &str,
) -> Result<String> {
    let positions = briefing.explain(worker);
    let heat = heat(&positions);
    let changes = changes(briefing, renewals);
    let renewals: Vec<_> = changes.iter().map(|change| change.told(&positions)).collect();
    let tokens: Vec<_> = positions
        .iter()
        .zip(heat)
        .enumerate()
        .map(|(slot, (p, heat))| {
            let score = format!("{:.2e}", p.score);
            let came = changes.iter().find(|change| change.came.contains(&slot)).map(|change| change.written);
            let share = format!("{:.3}", p.kept_by.sqrt());
            let kept_by = format!("{:.0}", 100.0 * p.kept_by);
            let (piece, heat) = (visible(&p.piece), format!("{heat:.3}"));
            let some = p.kept_by > 0.0;
            context! { piece, kept => p.kept, some, kept_by, share, heat, score, slot, came }
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
                renewals,
            },
        )
    });
    page.map_err(|e| Error::Page(Box::new(e)))
}

/// Stretches of text that are listed of one renewal.
const LISTED: usize = 12;

/// What one renewal changed.
struct Change {
    written: usize,
    /// Positions that count as kept since then.
    came: BTreeSet<usize>,
    /// How many no longer do.
    went: usize,
}

fn changes(briefing: &Briefing, renewals: &[Renewed]) -> Vec<Change> {
    let many = briefing.many();
    let kept = |kept_by: &[f32]| -> BTreeSet<usize> {
        kept_by.iter().enumerate().filter(|(_, share)| **share >= many).map(|(slot, _)| slot).collect()
    };
    let mut before = kept(briefing.kept_by());
    let change = |renewed: &Renewed| {
        let now = kept(&renewed.kept_by);
        let (came, went) = (now.difference(&before).copied().collect(), before.difference(&now).count());
        before = now;
        Change { written: renewed.written, came, went }
    };
    renewals.iter().map(change).collect()
}

impl Change {
    /// The longest stretches of text that came in, in their order.
    fn told(&self, positions: &[Position]) -> Value {
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        for &slot in &self.came {
            match stretches.last_mut() {
                Some((_, end)) if *end == slot => *end += 1,
                _ => stretches.push((slot, slot + 1)),
            }
        }
        stretches.sort_by_key(|(from, to)| (std::cmp::Reverse(to - from), *from));
        let more = stretches.len().saturating_sub(LISTED);
        stretches.truncate(LISTED);
        stretches.sort_unstable();
        let text = |(from, to): &(usize, usize)| {
            let pieces: String = positions[*from..*to].iter().map(|p| p.piece.as_str()).collect();
            visible(pieces.trim()).replace('\n', " ")
        };
        let stretches: Vec<String> = stretches.iter().map(text).collect();
        context! { written => self.written, came => self.came.len(), went => self.went, stretches, more }
    }
}
