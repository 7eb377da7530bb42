//! The most recent positions.

use super::random::split;
use super::{Budgets, Lists, Needs, Picked, Selector};
use crate::config::Protected;
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "recent";

/// The most recent positions: a sliding window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "the most recent positions", |_| Ok(Recent))
}

impl Selector for Recent {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
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
            let scores: Vec<f64> = (0..scene.layers()[layer].seq_len()).map(|slot| slot as f64).collect();
            scene.pick(layer, head, Ranking::by(&scene.pool(&scores)).padding_last())
        })?;
        Ok(picked.merged())
    }
}

/// `kept_len` positions, the protected ones and the most recent others, ascending.
///
/// At least the protected positions and at most all `seq_len` are returned.
pub fn recent_positions(seq_len: usize, kept_len: usize, protect: Protected) -> Vec<u32> {
    let (mut kept, rest) = split(seq_len, protect);
    let taken = kept_len.saturating_sub(kept.len()).min(rest.len());
    kept.extend_from_slice(&rest[rest.len() - taken..]);
    kept.sort_unstable();
    kept
}
