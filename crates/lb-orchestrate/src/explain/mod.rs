//! A briefing that explains itself: what was kept, with which score, on a terminal and as an HTML page.

mod html;
mod terminal;

pub use html::heat_map;
pub use terminal::{excerpt, paint};

use crate::Position;

/// How a score compares with the others: 0 for the lowest kept score, 1 for the highest, by logarithm, since attention
/// weights span orders of magnitude.
fn heat(positions: &[Position]) -> Vec<f32> {
    let logs: Vec<f32> = positions.iter().map(|p| p.score.max(1e-12).ln()).collect();
    let kept = positions.iter().zip(&logs).filter(|(p, _)| p.kept).map(|(_, l)| *l);
    let (low, high) = kept.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), l| (a.min(l), b.max(l)));
    let span = if high > low { high - low } else { 1.0 };
    logs.iter().map(|l| ((l - low) / span).clamp(0.0, 1.0)).collect()
}
