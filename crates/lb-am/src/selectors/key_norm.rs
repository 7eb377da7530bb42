//! Keys of the lowest norm.

use candle_core::D;

use super::{Budgets, Needs, Picked, Selector};
use crate::error::Result;
use crate::layout::to_f32;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "key-norm";

/// The keys of the lowest L2 norm in each head (Devoto et al., arXiv 2406.11430).
///
/// Simplified: every layer is compacted, as in kvpress (`KnormPress`), where the paper leaves out the first ones. No attention
/// is computed, so a bias of the cache has no say.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyNorm;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "keys of the lowest norm", |_| Ok(KeyNorm))
}

impl Selector for KeyNorm {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let mut norms = Vec::with_capacity(scene.layers().len());
        for layer in scene.layers() {
            norms.push(to_f32(&layer.keys)?.sqr()?.sum(D::Minus1)?.sqrt()?.to_vec2::<f32>()?);
        }
        norms.iter_mut().flatten().flatten().for_each(|norm| *norm = -*norm);
        let scores = scene.pool_heads(norms);
        scene.share_out(&scores)?;
        scene.each_head(|layer, head| {
            scene.pick(layer, head, Ranking::by(&scores[layer][head]).padding_last())
        })
    }
}
