//! The pipeline: scores, mask, keys, biases, values.

use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};

use crate::beta::{BetaSums, fit_beta, stored_bias};
use crate::compacted::{Compacted, CompactedLayer, Report, Timing};
use crate::config::{BetaMethod, Compaction, MaskScope, ValuesMethod};
use crate::error::{AtLayer, Error, Result};
use crate::layout::{LayerKv, Padding, all_finite, check_inputs, common_len, gather, to_f32};
use crate::mask::{MaskInfo, given, select};
use crate::scores::{Observed, layer_scores, observe_all, shared_scores};
use crate::softmax::{logits, probabilities, weights_at};
use crate::spans::max_pool;
use crate::values::{ValuesSums, fit_values};

/// Compacts a cache for the given task queries.
///
/// Scores positions by the queries' attention, selects by the budget, keeps those keys bit for bit, then fits biases
/// to the attention mass and values to the attention output of the full cache (AM, arXiv 2602.16284, section 3; the
/// shared mask and the MAD rule are Latent Briefing's). The input is not changed.
///
/// # Shapes
///
/// `queries[l]` is `[kv_heads, n_queries, head_dim]` for `layers[l]`: after query norm and RoPE, the heads of a group
/// concatenated along `n_queries`. A shared mask needs layers of one length.
///
/// # Numerics
///
/// f32 throughout, systems of the value fit in f64; the result is stored in the cache dtype. The same input gives the
/// same result; equal scores go to the earlier position. Where everything is kept the layer comes back unchanged.
///
/// # Errors
///
/// [`Error::Config`], [`Error::Empty`], [`Error::Shape`], [`Error::Dtype`] and [`Error::NonFinite`] for the input, the
/// last also where logits or fitted values overflow; [`Error::Layer`] around what concerns one layer.
pub fn compact(layers: &[LayerKv], queries: &[Tensor], config: &Compaction) -> Result<Compacted> {
    run(layers, queries, None, config)
}

/// Compacts a cache to a given selection, with the fits that [`compact`] would do; for baselines and for selections
/// made elsewhere. Budget and protected positions are ignored.
///
/// # Shapes
///
/// As [`compact`]; `kept` is one list for all layers or one per layer, each of strictly ascending slots.
///
/// # Numerics
///
/// As [`compact`].
///
/// # Errors
///
/// As [`compact`]; [`Error::Shape`], [`Error::Empty`] or [`Error::Config`] for a list that does not fit.
pub fn compact_at(
    layers: &[LayerKv],
    queries: &[Tensor],
    kept: &[Vec<u32>],
    config: &Compaction,
) -> Result<Compacted> {
    run(layers, queries, Some(kept), config)
}

fn run(
    layers: &[LayerKv],
    queries: &[Tensor],
    kept: Option<&[Vec<u32>]>,
    config: &Compaction,
) -> Result<Compacted> {
    let started = Instant::now();
    config.validate()?;
    let padding = check_inputs(layers, queries)?;
    if config.mask == MaskScope::Shared {
        common_len(layers)?;
    }
    if let Some(kept) = kept {
        check_kept(layers, kept)?;
    }
    let mut timing = Timing::default();
    let with_output = config.values != ValuesMethod::Copy;
    let observed = timed(&mut timing.scores, || observe_all(layers, queries, config.score, with_output))?;
    let plan = timed(&mut timing.mask, || Ok(Plan::new(&observed, &padding, kept, config)))?;
    let mut fit = Fit { config, timing, beta: BetaSums::default(), values: ValuesSums::default() };
    let mut compacted = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        let kept = &plan.kept[index];
        if !padding[index].leaves_life(kept) {
            return Err(Error::Empty { arg: "a head that keeps nothing but padding" }).at_layer(index);
        }
        let scores = plan.importance(index);
        compacted.push(fit.layer(layer, &queries[index], &observed[index], kept, scores).at_layer(index)?);
        all_finite("fitted values", &compacted[index].values, index)?;
    }
    fit.timing.total = started.elapsed();
    let report = plan.report(layers, config, &fit);
    Ok(Compacted { layers: compacted, report })
}

fn check_kept(layers: &[LayerKv], kept: &[Vec<u32>]) -> Result<()> {
    if kept.len() != 1 && kept.len() != layers.len() {
        let expected = format!("one list, or one for each of {} layers", layers.len());
        return Err(Error::Shape { arg: "kept", expected, got: vec![kept.len()] });
    }
    for (index, layer) in layers.iter().enumerate() {
        let list = &kept[index % kept.len()];
        let Some(last) = list.last() else { return Err(Error::Empty { arg: "kept" }).at_layer(index) };
        let bad = list.windows(2).find(|pair| pair[0] >= pair[1]);
        if let Some([before, after]) = bad {
            let value = format!("[.., {before}, {after}, ..]");
            let reason = "slots must be strictly ascending";
            return Err(Error::Config { field: "kept", value, reason }).at_layer(index);
        }
        if *last as usize >= layer.seq_len() {
            let reason = "a slot lies beyond the cache";
            return Err(Error::Config { field: "kept", value: last.to_string(), reason }).at_layer(index);
        }
    }
    Ok(())
}

/// What stays in each layer, and why.
struct Plan {
    kept: Vec<Vec<u32>>,
    masks: Vec<MaskInfo>,
    /// Pooled scores: one list for all layers, or one per layer.
    pooled: Vec<Vec<f32>>,
    shared: Vec<f32>,
}

impl Plan {
    fn new(
        observed: &[Observed],
        padding: &[Padding],
        kept: Option<&[Vec<u32>]>,
        config: &Compaction,
    ) -> Self {
        let shared = shared_scores(observed, config.across);
        let pooled: Vec<Vec<f32>> = match config.mask {
            MaskScope::Shared => vec![max_pool(&shared, config.pooling)],
            MaskScope::PerLayer => observed
                .iter()
                .map(|layer| max_pool(&layer_scores(layer, config.across), config.pooling))
                .collect(),
        };
        let mut selected = Vec::new();
        let mut masks = Vec::new();
        for (index, scores) in pooled.iter().enumerate() {
            let is_dead = |slot: usize| match config.mask {
                MaskScope::Shared => padding.iter().all(|layer| layer.is_dead(slot)),
                MaskScope::PerLayer => padding[index].is_dead(slot),
            };
            if kept.is_some() {
                masks.push(given(scores, is_dead));
            } else {
                let (slots, info) = select(scores, is_dead, config.budget, config.protect);
                selected.push(slots);
                masks.push(info);
            }
        }
        let lists = kept.unwrap_or(&selected);
        let kept = (0..observed.len()).map(|index| lists[index % lists.len()].clone()).collect();
        Self { kept, masks, pooled, shared }
    }

    /// The pooled scores that the mask of a layer was cut from.
    fn importance(&self, layer: usize) -> &[f32] {
        &self.pooled[layer % self.pooled.len()]
    }

    fn report(self, layers: &[LayerKv], config: &Compaction, fit: &Fit<'_>) -> Report {
        let kept_len = self.kept.iter().map(Vec::len).max().unwrap_or(0);
        let longest = self.kept.iter().position(|kept| kept.len() == kept_len).unwrap_or(0);
        let total: usize = layers.iter().map(LayerKv::seq_len).sum();
        let mask = self.masks[longest % self.masks.len()].clone();
        Report {
            seq_len: layers.iter().map(LayerKv::seq_len).max().unwrap_or(0),
            kept_len,
            keep_ratio: self.kept.iter().map(Vec::len).sum::<usize>() as f64 / total as f64,
            scores: max_pool(&self.shared, config.pooling),
            raw_scores: self.shared,
            mask,
            layer_masks: if config.mask == MaskScope::PerLayer { self.masks } else { Vec::new() },
            beta: (config.beta != BetaMethod::Zero).then(|| fit.beta.report()),
            values: (config.values != ValuesMethod::Copy).then(|| fit.values.report()),
            timing: fit.timing,
        }
    }
}

/// The fits of all layers, with what they add up to.
struct Fit<'a> {
    config: &'a Compaction,
    timing: Timing,
    beta: BetaSums,
    values: ValuesSums,
}

impl Fit<'_> {
    fn layer(
        &mut self,
        layer: &LayerKv,
        queries: &Tensor,
        observed: &Observed,
        kept: &[u32],
        scores: &[f32],
    ) -> Result<CompactedLayer> {
        let config = self.config;
        let keys = gather(&layer.keys, kept)?;
        let values = gather(&layer.values, kept)?;
        let (heads, t, _) = keys.dims3()?;
        let carried = match &layer.bias {
            Some(bias) => gather(bias, kept)?,
            None => Tensor::zeros((heads, t), DType::F32, keys.device())?,
        };
        let kept = kept.to_vec();
        // Nothing is missing, so there is nothing to correct; a fit could only add rounding.
        if t == layer.seq_len() {
            return Ok(CompactedLayer { keys, values, bias: carried, kept });
        }
        let (wide, queries) = (to_f32(&keys)?, to_f32(queries)?);
        let bias = timed(&mut self.timing.beta, || {
            let scores = logits(&queries, &wide, Some(&carried))?;
            let weights = weights_at(&scores, &observed.max)?;
            let beta = fit_beta(&weights, &observed.mass, config.beta, &mut self.beta)?;
            stored_bias(&carried, beta.as_ref(), layer.dtype())
        })?;
        let fitted = match &observed.output {
            None => None,
            Some(target) => timed(&mut self.timing.values, || {
                let attention = probabilities(&logits(&queries, &wide, Some(&bias))?)?;
                let importance: Vec<f32> = kept.iter().map(|slot| scores[*slot as usize]).collect();
                fit_values(&attention, target, &values, &importance, config.values, &mut self.values)
            })?,
        };
        Ok(CompactedLayer { keys, values: fitted.unwrap_or(values), bias, kept })
    }
}

fn timed<T>(clock: &mut Duration, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = step();
    *clock += started.elapsed();
    result
}
