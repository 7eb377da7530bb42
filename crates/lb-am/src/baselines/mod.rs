//! Other ways to choose what stays, to compare with: pass what they select to [`compact_at`](crate::compact_at).
//!
//! [`select`] runs a published method on a cache that is already there. Each is one file and one function, and says what
//! was simplified: methods that act while a model reads or writes are asked once, for the cache as it is, and fit
//! nothing. A bias that the cache carries enters every attention.

mod check;
mod expected_attention;
mod h2o;
mod key_norm;
mod kvzip;
mod name;
mod pyramidkv;
mod random;
mod recent;
mod snapkv;
mod streaming;
mod tova;

pub use name::{Baseline, Needs};
pub use random::random_positions;
pub use recent::recent_positions;

use candle_core::Tensor;

use crate::config::Protected;
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::layout::{LayerKv, Padding};

/// What a baseline may look at.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The full cache.
    pub layers: &'a [LayerKv],
    /// The task's queries, per layer `[kv_heads, group_size * task_tokens, head_dim]`, rows ordered (head of the group,
    /// token). May be empty for a baseline that does not read them.
    pub task: &'a [Tensor],
    /// Queries of the context's own prefill, one per slot: `[kv_heads, group_size * seq_len, head_dim]`, rows likewise.
    pub context: Option<&'a [Tensor]>,
    /// Queries of the model while it repeats the context: `[kv_heads, group_size * n, head_dim]`, rows likewise.
    pub repeat: Option<&'a [Tensor]>,
    /// Query heads per KV head.
    pub group_size: usize,
}

/// Which slots `baseline` keeps, one [`Kept`] per layer.
///
/// Each head keeps min(max(`kept_len`, protected), seq_len) slots; with [`Baseline::PyramidKv`] that is the mean over
/// layers. Protected positions always stay, padding is taken after everything else, equal scores go to the earlier
/// position.
///
/// # Shapes
///
/// Those of [`Observation`]; layers may differ in length.
///
/// # Numerics
///
/// Attention in f32, sums over queries in f32 and over tiles of queries in f64. The same input gives the same slots.
///
/// # Errors
///
/// [`Error::Empty`] where queries are missing that the baseline [needs](Baseline::needs), [`Error::Shape`],
/// [`Error::Dtype`] and [`Error::NonFinite`] for tensors that do not fit, the last also for logits beyond f32, and
/// [`Error::Config`] for a `kept_len` or a `group_size` of 0.
pub fn select(
    baseline: Baseline,
    observation: &Observation<'_>,
    kept_len: usize,
    protect: Protected,
) -> Result<Vec<Kept>> {
    if kept_len == 0 {
        return Err(Error::Config { field: "kept_len", value: "0".into(), reason: "must be at least 1" });
    }
    let padding = check::check(baseline.needs(), observation)?;
    let scene = Scene { observation, padding: &padding, kept_len, protect };
    match baseline {
        Baseline::Random { seed } => random::select(&scene, seed),
        Baseline::Streaming => streaming::select(&scene),
        Baseline::H2o => h2o::select(&scene),
        Baseline::SnapKv => snapkv::select(&scene),
        Baseline::PyramidKv => pyramidkv::select(&scene),
        Baseline::KeyNorm => key_norm::select(&scene),
        Baseline::ExpectedAttention => expected_attention::select(&scene),
        Baseline::KvZip => kvzip::select(&scene),
        Baseline::Tova => tova::select(&scene),
    }
}

/// What a method gets, checked.
struct Scene<'a> {
    observation: &'a Observation<'a>,
    padding: &'a [Padding],
    kept_len: usize,
    protect: Protected,
}

impl<'a> Scene<'a> {
    fn layers(&self) -> &'a [LayerKv] {
        self.observation.layers
    }

    /// Slots of one layer that are protected.
    fn protected(&self, layer: usize) -> usize {
        self.protect.first.saturating_add(self.protect.last).min(self.layers()[layer].seq_len())
    }

    /// Slots that each head of a layer keeps.
    fn budget(&self, layer: usize) -> usize {
        self.kept_len.max(self.protected(layer)).min(self.layers()[layer].seq_len())
    }

    /// `count` slots of one head: the protected ones, then `first` in its order, then the best by `scores`; padding last.
    fn pick(&self, at: (usize, usize), count: usize, first: &[u32], scores: &[f64]) -> Result<Vec<u32>> {
        let (layer, head) = at;
        if scores.iter().any(|score| score.is_nan()) {
            return Err(Error::NonFinite { arg: "logits", layer });
        }
        let (mut kept, mut rest) = split(scores.len(), self.protect);
        let is_dead = |slot: u32| self.padding[layer].is_dead_in(head, slot as usize);
        let mut ranks = vec![first.len(); scores.len()];
        first.iter().enumerate().for_each(|(rank, slot)| ranks[*slot as usize] = rank);
        // The sort is stable and the slots ascend, so ties go to the earlier position.
        rest.sort_by(|a, b| {
            let (i, j) = (*a as usize, *b as usize);
            let by_score = scores[j].partial_cmp(&scores[i]).expect("no NaN, as checked above");
            is_dead(*a).cmp(&is_dead(*b)).then(ranks[i].cmp(&ranks[j])).then(by_score)
        });
        kept.extend_from_slice(&rest[..count.saturating_sub(kept.len()).min(rest.len())]);
        kept.sort_unstable();
        Ok(kept)
    }

    /// The best `counts(layer)` slots of every head by scores `[layer][head][slot]`.
    fn pick_all(&self, scores: &[Vec<Vec<f64>>], counts: impl Fn(usize) -> usize) -> Result<Vec<Kept>> {
        let head = |at: (usize, usize), scores: &Vec<f64>| self.pick(at, counts(at.0), &[], scores);
        let layer = |(layer, heads): (usize, &Vec<Vec<f64>>)| -> Result<Kept> {
            let lists = heads.iter().enumerate().map(|(h, scores)| head((layer, h), scores));
            Ok(Kept::per_head(lists.collect::<Result<_>>()?))
        };
        scores.iter().enumerate().map(layer).collect()
    }

    /// One list for all heads of a layer, or one for each where padding makes them differ.
    fn common(&self, layer: usize, list: impl Fn(usize) -> Result<Vec<u32>>) -> Result<Kept> {
        let lists = (0..self.layers()[layer].kv_heads()).map(list).collect::<Result<Vec<_>>>()?;
        let same = lists.windows(2).all(|pair| pair[0] == pair[1]);
        Ok(if same { Kept::shared(lists[0].clone()) } else { Kept::per_head(lists) })
    }
}

/// Protected positions, and the others, both ascending.
fn split(seq_len: usize, protect: Protected) -> (Vec<u32>, Vec<u32>) {
    (0..seq_len as u32).partition(|j| protect.covers(*j as usize, seq_len))
}
