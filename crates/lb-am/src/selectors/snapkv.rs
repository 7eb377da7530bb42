//! SnapKV: what the end of the prompt looks at, pooled.

use super::{Budgets, Needs, Picked, Selector};
use crate::config::{ScoreAgg, Spans, ensure};
use crate::error::Result;
use crate::mask::Ranking;
use crate::registry::{Arguments, Factory, Spec};
use crate::scene::Scene;
use crate::spans::SpanMap;

const NAME: &str = "snapkv";

/// The slots that the last tokens of the task attend to, max-pooled (Li et al., arXiv 2404.14469, section 4).
///
/// Simplified: the observation window is the end of the task, which is not part of the cache, so attention among its own
/// tokens is left out of the softmax and the window itself takes no budget. Each KV head has one list, by the mean over
/// the heads of its group, where the paper repeats the cache for every query head. Spans of the configuration come on top
/// of its own pooling. kvpress (`SnapKVPress`) takes the last 64 tokens of what it compresses, keeps them, has their keys in
/// the softmax and pools by the mean of 5: `pool=1` with spans of a mean of 5 does as much, up to the ends of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapKv {
    /// Tokens of the observation window, at least 1. Default 32, as in the experiments on LongBench.
    pub window: usize,
    /// Width of the max-pool in positions, odd, 1 to 255. Default 7, likewise.
    pub pool: usize,
}

impl Default for SnapKv {
    fn default() -> Self {
        Self { window: 32, pool: 7 }
    }
}

pub(super) fn factory() -> Factory {
    keys(Factory::new(NAME, "what the end of the task looks at, pooled", SnapKv::read))
}

/// Of this selector, and of those made of it.
pub(super) fn keys(factory: Factory) -> Factory {
    factory.key("window", "tokens at the end of the task (32)").key("pool", "positions of its max-pool (7)")
}

impl SnapKv {
    pub(super) fn read(arguments: &Arguments<'_>) -> Result<Self> {
        let usual = Self::default();
        Ok(Self {
            window: arguments.get_or("window", "a whole number of tokens", usual.window)?,
            pool: arguments.get_or("pool", "an odd number of positions", usual.pool)?,
        })
    }

    pub(super) fn write(self, spec: Spec) -> Spec {
        let usual = Self::default();
        spec.with_unless("window", self.window, &usual.window).with_unless("pool", self.pool, &usual.pool)
    }

    /// Scores `[layer][head][slot]`, after its own pooling and the configuration's.
    pub(super) fn scores(self, scene: &Scene<'_>) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut scores = scene.attention(&scene.last_queries(self.window)?, ScoreAgg::Mean)?;
        let own = SpanMap::windows_of(Spans::Max { width: self.pool });
        for scores in scores.iter_mut().flatten() {
            *scores = scene.pool(&own.pool(scores));
        }
        Ok(scores)
    }
}

impl Selector for SnapKv {
    fn spec(&self) -> Spec {
        self.write(Spec::new(NAME))
    }

    fn needs(&self) -> Needs {
        Needs::QUERIES
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn validate(&self) -> Result<()> {
        ensure(self.window >= 1, "snapkv.window", self.window, "must be at least 1")?;
        let holds = self.pool % 2 == 1 && self.pool <= 255;
        ensure(holds, "snapkv.pool", self.pool, "must be odd and within 1..=255 positions")
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let scores = self.scores(scene)?;
        scene.share_out(&scores)?;
        scene.each_head(|layer, head| {
            scene.pick(layer, head, Ranking::by(&scores[layer][head]).padding_last())
        })
    }
}
