//! Slots that come before all others.

use crate::config::Spans;
use crate::scene::Scene;

/// `scores` with the slots of `first` above all others, each in its order. Where spans are units, a unit of which one
/// slot comes first does so as a whole.
pub(super) fn lifted(scene: &Scene<'_>, scores: &[f64], first: &[usize]) -> Vec<f64> {
    let above = 1.0 + scores.iter().copied().fold(0.0, f64::max);
    let mut lifted = scores.to_vec();
    for slot in first {
        lifted[*slot] += above;
    }
    if matches!(scene.config().spans, Spans::Units(_)) { scene.pool(&lifted) } else { lifted }
}

/// The best `count` of some slots by their scores, equal ones from the earlier slot on.
pub(super) fn best(scores: &[f64], mut slots: Vec<usize>, count: usize) -> Vec<usize> {
    slots.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    slots.truncate(count);
    slots
}
