//! SnapKV: what the end of the prompt looks at, pooled.

use candle_core::Tensor;

use super::Scene;
use crate::config::{ScoreAgg, Spans};
use crate::error::Result;
use crate::kept::Kept;
use crate::layout::LayerKv;
use crate::scores::observe_all;
use crate::spans::SpanMap;

/// Tokens of the observation window, as in the experiments on LongBench.
const WINDOW: usize = 32;
/// Width of the max-pool, likewise.
const POOL: usize = 7;

/// The slots that the last 32 task tokens attend to, max-pooled over 7 (Li et al., arXiv 2404.14469, section 4).
///
/// Simplified: the observation window is the end of the task, which is not part of the cache, so attention among its own
/// tokens is left out of the softmax and the window itself takes no budget. Each KV head has one list, by the mean over
/// the heads of its group, where the paper repeats the cache for every query head.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    scene.pick_all(&scores(scene)?, |layer| scene.budget(layer))
}

/// Pooled scores `[layer][head][slot]`.
pub(super) fn scores(scene: &Scene<'_>) -> Result<Vec<Vec<Vec<f64>>>> {
    let window = last_tokens(scene, WINDOW)?;
    let observed = observe_all(scene.layers(), &window, ScoreAgg::Mean, false)?;
    let longest = scene.layers().iter().map(LayerKv::seq_len).max().unwrap_or(0);
    let spans = SpanMap::new(Spans::Max { width: POOL }, None, longest)?;
    let pool = |scores: &Vec<f32>| spans.pool(scores).into_iter().map(f64::from).collect();
    Ok(observed.iter().map(|layer| layer.scores.iter().map(pool).collect()).collect())
}

/// The queries of the last `count` task tokens, in every layer.
pub(super) fn last_tokens(scene: &Scene<'_>, count: usize) -> Result<Vec<Tensor>> {
    let group = scene.observation.group_size;
    let last = |queries: &Tensor| -> Result<Tensor> {
        let (heads, rows, width) = queries.dims3()?;
        let tokens = rows / group;
        let taken = count.min(tokens);
        let apart = queries.reshape((heads, group, tokens, width))?;
        Ok(apart.narrow(2, tokens - taken, taken)?.contiguous()?.reshape((heads, group * taken, width))?)
    };
    scene.observation.task.iter().map(last).collect()
}
