//! What a selector looks at, and what it picks with.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::Tensor;
use lb_kernels::PackedBits;
use rayon::prelude::*;

use crate::backend::{Backend, Observing};
use crate::config::{Budget, Compaction, ScoreAgg, Sharing};
use crate::error::{AtLayer, Error, Result};
use crate::extra_queries::Extra;
use crate::kept::Kept;
use crate::layout::{LayerKv, Padding};
use crate::mask::{self, Ranking, Score};
use crate::observed::Observed;
use crate::scores::{layer_scores, observe_all, shared_scores};
use crate::selectors::{HeadPick, Lists, Picked};
use crate::sharing::{Contender, share_out};
use crate::spans::SpanMap;

/// Everything that a [`Selector`](crate::Selector) may look at: the cache, queries and what they saw, the configuration.
///
/// Scores go through [`pool`](Self::pool), so that what stands together is kept together, and then to one of the picks,
/// which fill the budget. A list is made for each head ([`each_head`](Self::each_head)), for each layer
/// ([`each_layer`](Self::each_layer)) or for all ([`for_all`](Self::for_all)).
#[derive(Debug)]
pub struct Scene<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) layers: &'a [LayerKv],
    pub(crate) queries: &'a [Tensor],
    pub(crate) extra: Extra<'a>,
    pub(crate) group_size: usize,
    pub(crate) observed: &'a [Observed],
    pub(crate) padding: &'a [Padding],
    pub(crate) spans: &'a SpanMap,
    pub(crate) config: &'a Compaction,
    /// What kept slots are stored in, where that is not the cache's dtype.
    pub(crate) bits: Option<PackedBits>,
    /// How many slots each head of each layer keeps, where that was decided elsewhere.
    pub(crate) counts: Option<&'a [Vec<usize>]>,
    pub(crate) shared: OnceLock<SharedScores>,
    /// How many slots each head of each layer keeps by [`share_out`](Self::share_out).
    pub(crate) shared_out: OnceLock<Vec<Vec<usize>>>,
}

/// Scores over all layers and heads, before and after spans.
#[derive(Clone, Debug)]
pub(crate) struct SharedScores {
    pub(crate) raw: Vec<f32>,
    pub(crate) pooled: Vec<f32>,
}

impl<'a> Scene<'a> {
    /// The cache.
    pub fn layers(&self) -> &'a [LayerKv] {
        self.layers
    }

    /// The queries that the compaction is made for, per layer `[kv_heads, group_size * tokens, head_dim]`, rows ordered
    /// (head of the group, token).
    pub fn queries(&self) -> &'a [Tensor] {
        self.queries
    }

    /// Query heads per KV head.
    pub fn group_size(&self) -> usize {
        self.group_size
    }

    /// The queries of the context's own prefill, one for each slot: `[kv_heads, group_size * seq_len, head_dim]`, rows
    /// likewise.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] where they were not given; never for a selector whose [`Needs`](crate::selectors::Needs) have them.
    pub fn context(&self) -> Result<&'a [Tensor]> {
        self.extra.context.ok_or(Error::Empty { arg: "context" })
    }

    /// The queries of the model while it repeats the context: `[kv_heads, group_size * n, head_dim]`, rows likewise.
    ///
    /// # Errors
    ///
    /// As [`context`](Self::context).
    pub fn repeat(&self) -> Result<&'a [Tensor]> {
        self.extra.repeat.ok_or(Error::Empty { arg: "repeat" })
    }

    /// The configuration. An error target has become a ratio.
    pub fn config(&self) -> &'a Compaction {
        self.config
    }

    /// Whether a slot of a head is padding.
    pub fn is_padding(&self, layer: usize, head: usize, slot: usize) -> bool {
        self.padding[layer].is_dead_in(head, slot)
    }

    /// Whether a position stays whatever its score.
    pub fn is_protected(&self, layer: usize, slot: usize) -> bool {
        self.config.protect.covers(slot, self.layers[layer].seq_len())
    }

    /// What the queries saw of a layer.
    pub fn observed(&self, layer: usize) -> &'a Observed {
        &self.observed[layer]
    }

    /// The queries' attention over all layers and heads, after spans; positions as in the longest layer.
    pub fn shared_scores(&self) -> &[f32] {
        &self.shared_pair().pooled
    }

    pub(crate) fn shared_pair(&self) -> &SharedScores {
        self.shared.get_or_init(|| {
            let raw = shared_scores(self.observed, self.config.across);
            SharedScores { pooled: self.pool(&raw), raw }
        })
    }

    /// The same over the heads of one layer.
    pub fn layer_scores(&self, layer: usize) -> Vec<f32> {
        self.pool(&layer_scores(&self.observed[layer], self.config.across))
    }

    /// The same of every head: `[layer][head][slot]`.
    pub fn all_head_scores(&self) -> Vec<Vec<Vec<f32>>> {
        let heads = |layer: usize| {
            (0..self.layers[layer].kv_heads()).map(|head| self.head_scores(layer, head)).collect()
        };
        (0..self.layers.len()).into_par_iter().map(heads).collect()
    }

    /// The same of one head.
    pub fn head_scores(&self, layer: usize, head: usize) -> Vec<f32> {
        self.pool(&self.observed[layer].scores[head])
    }

    /// The queries of the last `count` tokens at most.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`].
    pub fn last_queries(&self, count: usize) -> Result<Vec<Tensor>> {
        let last = |queries: &Tensor| -> Result<Tensor> {
            let (heads, rows, width) = queries.dims3()?;
            let tokens = rows / self.group_size;
            let (taken, group) = (count.min(tokens), self.group_size);
            let apart = queries.reshape((heads, group, tokens, width))?;
            let narrow = apart.narrow(2, tokens - taken, taken)?.contiguous()?;
            Ok(narrow.reshape((heads, group * taken, width))?)
        };
        self.queries.iter().map(last).collect()
    }

    /// The attention of other queries to each position, `[layer][head][slot]`, before spans: one pass over the cache.
    ///
    /// # Errors
    ///
    /// [`Error::Tensor`] for queries of other shapes than [`queries`](Self::queries), [`Error::NonFinite`] for logits beyond
    /// f32.
    pub fn attention(&self, queries: &[Tensor], score: ScoreAgg) -> Result<Vec<Vec<Vec<f32>>>> {
        let what = Observing { score, output: false };
        let observed = observe_all(self.backend, self.layers, queries, what)?;
        Ok(observed.into_iter().map(|layer| layer.scores).collect())
    }

    /// Scores of the positions of a layer as the configuration's spans have them.
    pub fn pool<T: Score>(&self, scores: &[T]) -> Vec<T> {
        self.spans.pool(scores)
    }

    /// [`pool`](Self::pool) for every head: `[layer][head][slot]`.
    pub fn pool_heads<T: Score>(&self, scores: Vec<Vec<Vec<T>>>) -> Vec<Vec<Vec<T>>> {
        scores.into_par_iter().map(|layer| layer.iter().map(|scores| self.pool(scores)).collect()).collect()
    }

    /// The positions that come along when one is kept.
    pub fn span_of(&self, layer: usize, slot: usize) -> Range<usize> {
        self.spans.around(slot, self.layers[layer].seq_len())
    }

    /// Slots that a head keeps by the budget, protected ones counted in.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a threshold, which is no count; never where
    /// [`Selector::budgets`](crate::Selector::budgets) refuse it.
    pub fn count(&self, layer: usize, head: usize) -> Result<usize> {
        self.count_by(self.budget(layer, head)?, layer)
    }

    fn count_by(&self, budget: Budget, layer: usize) -> Result<usize> {
        let seq_len = self.layers[layer].seq_len();
        let wanted = match budget {
            Budget::KeepRatio(ratio) => mask::share(ratio, seq_len),
            Budget::KeptLen(len) => len,
            other => {
                let reason = "is no count; need a keep ratio or a kept length";
                return Err(Error::Config { field: "budget", value: format!("{other:?}"), reason });
            }
        };
        Ok(wanted.max(self.protected(layer)).min(seq_len))
    }

    /// Positions of a layer that stay whatever their score.
    pub fn protected(&self, layer: usize) -> usize {
        let protect = self.config.protect;
        protect.first.saturating_add(protect.last).min(self.layers[layer].seq_len())
    }

    fn budget(&self, layer: usize, head: usize) -> Result<Budget> {
        let counts = self.counts.or(self.shared_out.get().map(Vec::as_slice));
        if let Some(counts) = counts {
            return Ok(Budget::KeptLen(counts[layer][head]));
        }
        if self.config.shares() == Sharing::Equal {
            return Ok(self.config.budget);
        }
        Err(Error::Combination {
            selector: self.config.selection.to_string(),
            setting: "a count that is shared out among heads",
            reason: "it picks without having shared the count out (Scene::share_out)",
        })
    }

    /// Shares out among heads what they would keep alone, by their scores `[layer][head][slot]` as the configuration says, for
    /// all picks and counts from now on. Where heads have equal counts, or counts were decided elsewhere, nothing happens.
    ///
    /// # Errors
    ///
    /// Those of [`count`](Self::count).
    pub fn share_out<T: Score>(&self, scores: &[Vec<Vec<T>>]) -> Result<()> {
        if self.config.shares() == Sharing::Equal || self.counts.is_some() {
            return Ok(());
        }
        let contender = |layer: usize, head: usize, scores: &Vec<T>| -> Result<Contender> {
            let competes =
                |slot: usize| !self.is_protected(layer, slot) && !self.is_padding(layer, head, slot);
            let alone = match self.config.budget {
                // What the head would keep by its own scores.
                budget @ (Budget::Mad { .. } | Budget::Coverage { .. }) => {
                    let dead = |slot| self.is_padding(layer, head, slot);
                    self.pick_within(budget, layer, Ranking::by(scores), dead)?.slots.len()
                }
                counted => self.count_by(counted, layer)?,
            };
            Ok(Contender::new(scores, competes, self.protected(layer), alone))
        };
        let layer = |(layer, heads): (usize, &Vec<Vec<T>>)| -> Result<Vec<Contender>> {
            let one = |(head, scores): (usize, &Vec<T>)| contender(layer, head, scores);
            heads.iter().enumerate().map(one).collect()
        };
        let heads = scores.par_iter().enumerate().map(layer).collect::<Result<Vec<_>>>()?;
        self.shared_out.get_or_init(|| share_out(&heads, self.config.shares()));
        Ok(())
    }

    /// The best slots of one head by the budget.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] for a score that is NaN; [`Error::Shape`] for another number of scores than the layer has
    /// slots.
    pub fn pick<T: Score>(&self, layer: usize, head: usize, by: Ranking<'_, T>) -> Result<HeadPick> {
        self.pick_within(self.budget(layer, head)?, layer, by, |slot| self.is_padding(layer, head, slot))
    }

    /// The best `count` slots of one head, whatever the budget says.
    ///
    /// # Errors
    ///
    /// Those of [`pick`](Self::pick).
    pub fn pick_count<T: Score>(
        &self,
        layer: usize,
        head: usize,
        count: usize,
        by: Ranking<'_, T>,
    ) -> Result<HeadPick> {
        self.pick_within(Budget::KeptLen(count), layer, by, |slot| self.is_padding(layer, head, slot))
    }

    fn pick_within<T: Score>(
        &self,
        budget: Budget,
        layer: usize,
        by: Ranking<'_, T>,
        is_dead: impl Fn(usize) -> bool,
    ) -> Result<HeadPick> {
        let seq_len = self.layers[layer].seq_len();
        if by.scores().len() != seq_len {
            let (expected, got) = (format!("{seq_len} scores"), vec![by.scores().len()]);
            return Err(Error::Shape { arg: "scores", expected, got });
        }
        if by.scores().iter().any(|score| (*score).into().is_nan()) {
            return Err(Error::NonFinite { arg: "scores", layer });
        }
        let (slots, mask) = mask::select(by, is_dead, budget, self.config.protect, self.spans);
        Ok(HeadPick { slots, mask, importance: None })
    }

    /// A list for every head of every layer, heads side by side.
    ///
    /// # Errors
    ///
    /// Those of `pick`, by layer.
    pub fn each_head(&self, pick: impl Fn(usize, usize) -> Result<HeadPick> + Sync) -> Result<Picked> {
        let heads: Vec<(usize, usize)> = (0..self.layers.len())
            .flat_map(|layer| (0..self.layers[layer].kv_heads()).map(move |head| (layer, head)))
            .collect();
        let picks = heads.par_iter().map(|&(layer, head)| pick(layer, head).at_layer(layer));
        let mut picks = picks.collect::<Result<Vec<_>>>()?.into_iter();
        let mut picked = Picked::default();
        for layer in self.layers {
            let picks: Vec<HeadPick> = picks.by_ref().take(layer.kv_heads()).collect();
            let mut lists = Vec::with_capacity(picks.len());
            let mut importance = Vec::new();
            for pick in picks {
                lists.push(pick.slots);
                picked.masks.push(pick.mask);
                importance.extend(pick.importance);
            }
            picked.kept.push(Kept::per_head(lists));
            if !importance.is_empty() {
                picked.importance.push(importance);
            }
        }
        Ok(picked)
    }

    /// One list for the heads of each layer, by scores of that layer; padding is what all of them have none of.
    ///
    /// # Errors
    ///
    /// Those of `scores` and of [`pick`](Self::pick), by layer.
    pub fn each_layer(&self, scores: impl Fn(usize) -> Result<Vec<f32>> + Sync) -> Result<Picked> {
        let one = |layer: usize| -> Result<(HeadPick, Vec<f32>)> {
            let scores = scores(layer)?;
            let dead = |slot| self.padding[layer].is_dead(slot);
            Ok((self.pick_within(self.config.budget, layer, Ranking::by(&scores), dead)?, scores))
        };
        let all = (0..self.layers.len()).into_par_iter().map(|layer| one(layer).at_layer(layer));
        let mut picked = Picked::default();
        for (pick, scores) in all.collect::<Result<Vec<_>>>()? {
            picked.kept.push(Kept::shared(pick.slots));
            picked.masks.push(pick.mask);
            picked.importance.push(vec![scores]);
        }
        Ok(picked)
    }

    /// One list for all layers and heads, by scores of their positions; layers have one length.
    ///
    /// # Errors
    ///
    /// Those of [`pick`](Self::pick).
    pub fn for_all(&self, scores: &[f32]) -> Result<Picked> {
        let dead = |slot| self.padding.iter().all(|layer| layer.is_dead(slot));
        let pick = self.pick_within(self.config.budget, 0, Ranking::by(scores), dead)?;
        Ok(Picked {
            kept: vec![Kept::shared(pick.slots); self.layers.len()],
            masks: vec![pick.mask],
            importance: vec![vec![scores.to_vec()]],
        })
    }

    /// The queries' attention, which holds values fast where a selection has nothing to say: `[layer or 1][head or 1]`.
    pub(crate) fn attention_importance(&self, lists: Lists) -> Vec<Vec<Vec<f32>>> {
        let layers = 0..self.layers.len();
        match lists {
            Lists::Shared => vec![vec![self.shared_scores().to_vec()]],
            Lists::PerLayer => layers.into_par_iter().map(|layer| vec![self.layer_scores(layer)]).collect(),
            Lists::PerHead => self.all_head_scores(),
        }
    }
}
