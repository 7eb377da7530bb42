//! One mask for each layer.

use super::{Budgets, Lists, Needs, Picked, Selector};
use crate::error::Result;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "per-layer";

/// The positions that the queries look at most in each layer, over its heads; layers may differ in length.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerLayer;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "what the queries look at, one mask for each layer", |_| Ok(PerLayer))
}

impl Selector for PerLayer {
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
        scene.each_layer(|layer| Ok(scene.layer_scores(layer)))
    }
}
