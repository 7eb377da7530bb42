//! One mask for all layers and heads.

use super::{Budgets, Lists, Needs, Picked, Selector};
use crate::error::Result;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "shared";

/// The positions that the queries look at most, over all layers and heads (Latent Briefing); layers must have one length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shared;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "what the queries look at, one mask for all layers and heads", |_| Ok(Shared))
}

impl Selector for Shared {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn needs_all_layers(&self) -> bool {
        true
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn lists(&self) -> Lists {
        Lists::Shared
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        scene.for_all(scene.shared_scores())
    }
}
