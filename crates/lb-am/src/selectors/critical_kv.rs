//! CriticalKV: attention first, then attention times what a value weighs.

use candle_core::D;

use super::lifted::{best, lifted};
use super::{Budgets, Needs, Picked, Selector};
use crate::config::{Budget, ensure, is_share};
use crate::error::Result;
use crate::layout::to_f32;
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "critical-kv";
/// The first stage's share of the budget, in the paper as in kvpress.
const FIRST: f64 = 0.5;
/// What is added to attention in the second stage: kvpress's.
const EPSILON: f64 = 1e-4;

/// A part of the budget goes to what the queries look at most, the rest to the largest (attention + ε) · ‖v‖₁ (Feng et al.,
/// arXiv 2502.03805, algorithm 1; NVIDIA kvpress, `CriticalKVPress`).
///
/// Simplified: the paper's norm is that of the value behind the output projection, ‖W_o v‖₁, as the mean over the heads of
/// a group; this crate sees no weights, so the value itself is measured. Paper and kvpress put the second stage on the
/// scores of another method, SnapKV's for instance; here it is on the queries' attention as the configuration aggregates and
/// pools it. With shared counts (`heads=layer`) it is their `CriticalAdaKVPress`. Protected positions count in the first
/// stage. A budget that is no count has no halves: all are taken by the second stage's scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CriticalKv {
    /// The first stage's share of the budget, 0 to 1. Default 0.5.
    pub first: f64,
    /// ε, what is added to attention in the second stage, 0 to 1. Default 1e-4.
    pub epsilon: f64,
}

impl Default for CriticalKv {
    fn default() -> Self {
        Self { first: FIRST, epsilon: EPSILON }
    }
}

pub(super) fn factory() -> Factory {
    let about = "what the queries look at, then attention times the norm of the value";
    let factory = Factory::new(NAME, about, |arguments| {
        let first = arguments.get_or("first", "a number", FIRST)?;
        Ok(CriticalKv { first, epsilon: arguments.get_or("epsilon", "a number", EPSILON)? })
    });
    factory
        .key("first", "share that goes by attention alone (0.5)")
        .key("epsilon", "what is added to attention (0.0001)")
}

impl Selector for CriticalKv {
    fn spec(&self) -> Spec {
        Spec::new(NAME).with_unless("first", self.first, &FIRST).with_unless(
            "epsilon",
            self.epsilon,
            &EPSILON,
        )
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn validate(&self) -> Result<()> {
        ensure(is_share(self.first), "critical-kv.first", self.first, "must be within 0..=1")?;
        ensure(is_share(self.epsilon), "critical-kv.epsilon", self.epsilon, "must be within 0..=1")
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let attention = scene.all_head_scores();
        scene.share_out(&attention)?;
        let norms = |layer: &crate::LayerKv| -> Result<Vec<Vec<f32>>> {
            Ok(to_f32(&layer.values)?.abs()?.sum(D::Minus1)?.to_vec2()?)
        };
        let norms = scene.layers().iter().map(norms).collect::<Result<Vec<_>>>()?;
        scene.each_head(|layer, head| {
            let raw = scene.observed(layer).scores()[head].iter().zip(&norms[layer][head]);
            let weighted = |(g, norm): (&f32, &f32)| (f64::from(*g) + self.epsilon) * f64::from(*norm);
            let weighted = scene.pool(&raw.map(weighted).collect::<Vec<f64>>());
            let first = self.first(scene, layer, head, &attention[layer][head])?;
            let ranked = lifted(scene, &weighted, &first);
            scene.pick(layer, head, Ranking::by(&ranked).padding_last())
        })
    }
}

impl CriticalKv {
    /// The slots of the first stage, without those that are protected.
    fn first(self, scene: &Scene<'_>, layer: usize, head: usize, attention: &[f32]) -> Result<Vec<usize>> {
        if matches!(scene.config().budget, Budget::Mad { .. } | Budget::Coverage { .. }) {
            return Ok(Vec::new());
        }
        let count = (scene.count(layer, head)? as f64 * self.first) as usize;
        let competes =
            |slot: &usize| !scene.is_protected(layer, *slot) && !scene.is_padding(layer, head, *slot);
        let slots = (0..attention.len()).filter(competes).collect();
        let scores: Vec<f64> = attention.iter().copied().map(f64::from).collect();
        Ok(best(&scores, slots, count.saturating_sub(scene.protected(layer))))
    }
}
