//! KVzip: what repeating the context needs.

use super::{Budgets, Needs, Picked, Selector};
use crate::config::ScoreAgg;
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "kvzip";

/// The largest attention that a slot gets while the model repeats the context (Kim et al., arXiv 2505.23416, section 3).
///
/// Simplified: attention is normalised over the cache alone, where the softmax of paper and kvpress (`KVzipPress`) holds the
/// first 4 slots, one chunk of 2,048 and the repeated chunk. On a real cache about half of the slots are others for it, with
/// one budget for all two thirds (`docs/real.md`). One budget for all heads of all layers, as in both, is `heads=all` with a
/// floor of 0; equal counts are the default. kvpress keeps the first 4 slots. The maximum is taken over the queries and the
/// heads of a group, as in the paper.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvZip;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "what repeating the context needs", |_| Ok(KvZip))
}

impl Selector for KvZip {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
    }

    fn needs(&self) -> Needs {
        Needs::REPEAT
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let scores = scene.pool_heads(scene.attention(scene.repeat()?, ScoreAgg::Max)?);
        scene.share_out(&scores)?;
        scene.each_head(|layer, head| {
            scene.pick(layer, head, Ranking::by(&scores[layer][head]).padding_last())
        })
    }
}
