//! KVzip: what repeating the context needs.

use super::Scene;
use crate::config::ScoreAgg;
use crate::error::Result;
use crate::kept::Kept;
use crate::scores::observe_all;

/// The largest attention that a slot gets while the model repeats the context (Kim et al., arXiv 2505.23416, section 3).
///
/// Simplified: attention is normalised over the cache alone, where the paper's softmax also holds the repeated chunk, and
/// every head keeps the same number of slots, where the paper shares one budget out among all heads. The maximum is taken
/// over the queries and the heads of a group, as in the paper.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    let repeat = scene.observation.repeat.unwrap_or(&[]);
    let observed = observe_all(scene.layers(), repeat, ScoreAgg::Max, false)?;
    let wide = |scores: &Vec<f32>| scores.iter().map(|score| f64::from(*score)).collect();
    let scores: Vec<Vec<Vec<f64>>> =
        observed.iter().map(|layer| layer.scores.iter().map(wide).collect()).collect();
    scene.pick_all(&scores, |layer| scene.budget(layer))
}
