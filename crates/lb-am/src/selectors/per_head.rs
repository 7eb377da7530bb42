//! The best positions of each KV head.

use super::{Budgets, Needs, Picked, Selector};
use crate::config::Sharing;
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "per-head";

/// The positions that the queries look at most in each KV head (AM, arXiv 2602.16284, "highest attention keys").
#[derive(Clone, Copy, Debug, Default)]
pub struct PerHead;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "what the queries look at, one list for each KV head", |_| Ok(PerHead))
}

impl Selector for PerHead {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn sharing(&self) -> Sharing {
        Sharing::All { floor: 0.2 }
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let scores = scene.all_head_scores();
        scene.share_out(&scores)?;
        let picked =
            scene.each_head(|layer, head| scene.pick(layer, head, Ranking::by(&scores[layer][head])))?;
        Ok(Picked { importance: scores, ..picked })
    }
}
