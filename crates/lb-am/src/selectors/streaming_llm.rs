//! StreamingLLM: attention sinks and a recent window.

use super::{Budgets, Lists, Needs, Picked, Selector};
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "streaming";
/// Positions that serve as attention sinks (section 3.2).
const SINKS: usize = 4;

/// The first positions and the most recent ones (Xiao et al., arXiv 2309.17453, section 3.2).
///
/// Simplified: keys keep the rotation of their own positions, where the paper counts positions inside the cache; sinks take
/// half of the budget at most, so that a tiny budget still has a window. Protected positions stay besides; sinks among
/// them are not counted twice. Padding is skipped when sinks are counted. kvpress (`StreamingLLMPress`) does the same with
/// sinks that are never cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamingLlm {
    /// First positions that stay. Default 4.
    pub sinks: usize,
}

impl Default for StreamingLlm {
    fn default() -> Self {
        Self { sinks: SINKS }
    }
}

pub(super) fn factory() -> Factory {
    let factory = Factory::new(NAME, "attention sinks and the most recent positions", |arguments| {
        Ok(StreamingLlm { sinks: arguments.get_or("sinks", "a whole number of positions", SINKS)? })
    });
    factory.key("sinks", "first positions that stay (4)")
}

impl Selector for StreamingLlm {
    fn spec(&self) -> Spec {
        Spec::new(NAME).with_unless("sinks", self.sinks, &SINKS)
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn budgets(&self) -> Budgets {
        Budgets::Counts
    }

    fn lists(&self) -> Lists {
        Lists::PerLayer
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let picked = scene.each_head(|layer, head| {
            let slots = scene.layers()[layer].seq_len();
            let count = scene.count(layer, head)?;
            let mut scores: Vec<f64> = (0..slots).map(|slot| slot as f64).collect();
            let live = (0..slots).filter(|slot| !scene.is_padding(layer, head, *slot));
            // Above all others, the first one first.
            for (sink, slot) in live.take(self.sinks.min(count / 2)).enumerate() {
                scores[slot] = (2 * slots - sink) as f64;
            }
            scene.pick(layer, head, Ranking::by(&scene.pool(&scores)).padding_last())
        })?;
        Ok(picked.merged())
    }
}
