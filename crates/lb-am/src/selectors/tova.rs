//! TOVA: what the last token looks at.

use super::{Budgets, Lists, Needs, Picked, Selector};
use crate::config::{HeadAgg, ScoreAgg};
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;
use crate::scores::aggregate;

const NAME: &str = "tova";

/// The slots that the last token attends to, by the mean over all heads of the layer: one list per layer (Oren et al.,
/// arXiv 2401.06104, Token Omission Via Attention).
///
/// Simplified: the paper drops one position per step; here the cut is made once, for the last token of the task. Where
/// heads have different padding, each ranks its own slots by the layer's scores. kvpress (`TOVAPress`) takes the last token
/// of what it compresses, whose own key is kept and has a part in the softmax; here it is no part of the cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tova;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "what the last token looks at, one list for each layer", |_| Ok(Tova))
}

impl Selector for Tova {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn lists(&self) -> Lists {
        Lists::PerLayer
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let heads = scene.attention(&scene.last_queries(1)?, ScoreAgg::Mean)?;
        let layers: Vec<Vec<f32>> =
            heads.iter().map(|heads| scene.pool(&aggregate(heads, HeadAgg::Mean))).collect();
        let picked = scene
            .each_head(|layer, head| scene.pick(layer, head, Ranking::by(&layers[layer]).padding_last()))?;
        Ok(picked.merged())
    }
}
