//! Biases and values of every layer, by kernels head by head or by tensor operations layer by layer.

use candle_core::{DType, Tensor};

use crate::beta::{BetaSums, fit_beta, stored_bias};
use crate::compacted::{CompactedLayer, Report, Timing, timed};
use crate::config::{BetaMethod, Compaction, ValuesMethod};
use crate::cpu::{self, Cut, HeadFit, ValuesPart};
use crate::error::{AtLayer, Error, Result};
use crate::error_target::ErrorTarget;
use crate::kept::Kept;
use crate::layout::{LayerKv, all_finite, gather, to_f32};
use crate::scene::Scene;
use crate::selected::Selected;
use crate::softmax::{logits, probabilities, weights_at};
use crate::values::{ValuesSums, fit_values};

/// Compacted layers, and what the fits add up to.
pub(crate) struct Fitted {
    pub(crate) layers: Vec<CompactedLayer>,
    beta: BetaSums,
    values: ValuesSums,
}

/// Fits biases and values of every layer to a selection.
pub(crate) fn fit_all(scene: &Scene<'_>, selected: &Selected, timing: &mut Timing) -> Result<Fitted> {
    for (index, padding) in scene.padding.iter().enumerate() {
        if !padding.leaves_life(&selected.kept[index % selected.kept.len()]) {
            return Err(Error::Empty { arg: "a head that keeps nothing but padding" }).at_layer(index);
        }
    }
    let fitted = if by_kernels(scene, selected) {
        Fitted::by_heads(scene, selected, timing)?
    } else {
        Fitted::by_tensors(scene, selected, timing)?
    };
    for (index, layer) in fitted.layers.iter().enumerate() {
        all_finite("fitted values", &layer.values, index)?;
    }
    Ok(fitted)
}

/// Whether all heads can be fitted one by one on the CPU.
fn by_kernels(scene: &Scene<'_>, selected: &Selected) -> bool {
    let shortest = selected.kept.iter().flat_map(Kept::lists).map(Vec::len).min().unwrap_or(0);
    let most = scene.queries.iter().map(|queries| queries.dims()[1]).max().unwrap_or(0);
    scene.layers.iter().all(|layer| layer.keys.device().is_cpu()) && cpu::knows(scene.config, most, shortest)
}

impl Fitted {
    fn new() -> Self {
        Self { layers: Vec::new(), beta: BetaSums::default(), values: ValuesSums::default() }
    }

    /// Head by head, by the CPU's kernels.
    fn by_heads(scene: &Scene<'_>, selected: &Selected, timing: &mut Timing) -> Result<Self> {
        let cut = |(index, layer): (usize, &LayerKv)| -> Result<Cut> {
            let kept = selected.kept[index % selected.kept.len()].clone();
            Ok(Cut {
                keys: gather(&layer.keys, &kept)?,
                values: gather(&layer.values, &kept)?,
                bias: carried_bias(layer, &kept)?,
                scale: layer.scale,
                shorter: kept.total(layer.kv_heads()) < layer.kv_heads() * layer.seq_len(),
                kept,
            })
        };
        let mut fitted = Self::new();
        let together = cpu::layers_together(scene.layers[0].kv_heads());
        for first in (0..scene.layers.len()).step_by(together) {
            let some = scene.layers.iter().enumerate().skip(first).take(together);
            let cuts = some.map(cut).collect::<Result<Vec<_>>>()?;
            let fits = cpu::fit_layers(scene, selected, first, &cuts, timing)?;
            for (cut, fits) in cuts.into_iter().zip(fits) {
                if cut.shorter {
                    fitted.count(&fits, scene.config, scene.queries[0].dims()[1]);
                }
                let Cut { keys, values, bias, kept, scale, .. } = cpu::assemble(cut, &fits)?;
                fitted.layers.push(CompactedLayer { keys, values, bias, kept, scale });
            }
        }
        Ok(fitted)
    }

    /// Adds the heads of one layer to the report.
    fn count(&mut self, fits: &[HeadFit], config: &Compaction, n: usize) {
        if let BetaMethod::Nnls { iterations, .. } = config.beta {
            for fit in fits {
                self.beta.add_head(&fit.beta, iterations);
            }
        }
        let parts: Vec<ValuesPart> = fits.iter().map(|fit| fit.value).collect();
        if let Some((lambda, exponent, _)) = cpu::dual_of(config.values, n, usize::MAX) {
            self.values.add_layer(&parts, lambda, exponent);
        }
    }

    /// Layer by layer, all heads at once.
    fn by_tensors(scene: &Scene<'_>, selected: &Selected, timing: &mut Timing) -> Result<Self> {
        let mut fitted = Self::new();
        for index in 0..scene.layers.len() {
            let kept = &selected.kept[index % selected.kept.len()];
            let layer = fitted.layer(scene, index, kept, selected.importance(index), timing);
            fitted.layers.push(layer.at_layer(index)?);
        }
        Ok(fitted)
    }

    fn layer(
        &mut self,
        scene: &Scene<'_>,
        index: usize,
        kept: &Kept,
        scores: &[Vec<f32>],
        timing: &mut Timing,
    ) -> Result<CompactedLayer> {
        let (layer, observed, config) = (&scene.layers[index], &scene.observed[index], scene.config);
        let (keys, values) = (gather(&layer.keys, kept)?, gather(&layer.values, kept)?);
        let carried = carried_bias(layer, kept)?;
        let (kept, scale) = (kept.clone(), layer.scale);
        // Nothing is missing, so there is nothing to correct; a fit could only add rounding.
        if kept.total(layer.kv_heads()) == layer.kv_heads() * layer.seq_len() {
            return Ok(CompactedLayer { keys, values, bias: carried, kept, scale });
        }
        let (wide, queries) = (to_f32(&keys)?, to_f32(&scene.queries[index])?);
        let bias = timed(&mut timing.beta, || {
            let scores = logits(&queries, &wide, Some(&carried), scale)?;
            let weights = weights_at(&scores, &observed.max)?;
            let beta = fit_beta(&weights, &observed.mass, config.beta, &mut self.beta)?;
            stored_bias(&carried, beta.as_ref(), layer.dtype())
        })?;
        let fitted = match &observed.output {
            None => None,
            Some(target) => timed(&mut timing.values, || {
                let attention = probabilities(&logits(&queries, &wide, Some(&bias), scale)?)?;
                let importance = importance(&kept, scores);
                fit_values(&attention, target, &values, &importance, config.values, &mut self.values)
            })?,
        };
        Ok(CompactedLayer { keys, values: fitted.unwrap_or(values), bias, kept, scale })
    }

    pub(crate) fn report(
        &self,
        scene: &Scene<'_>,
        selected: Selected,
        timing: Timing,
        error_target: Option<ErrorTarget>,
    ) -> Report {
        let (layers, config) = (scene.layers, scene.config);
        let lens: Vec<usize> = selected.kept.iter().map(Kept::max_len).collect();
        let kept_len = lens.iter().copied().max().unwrap_or(0);
        let longest = lens.iter().position(|len| *len == kept_len).unwrap_or(0);
        let full: usize = layers.iter().map(|layer| layer.kv_heads() * layer.seq_len()).sum();
        let kept: usize =
            selected.kept.iter().zip(layers).map(|(kept, layer)| kept.total(layer.kv_heads())).sum();
        let mask = selected.masks[longest * selected.masks.len() / selected.kept.len()].clone();
        Report {
            seq_len: layers.iter().map(LayerKv::seq_len).max().unwrap_or(0),
            kept_len,
            keep_ratio: kept as f64 / full as f64,
            scores: selected.scores,
            raw_scores: selected.raw_scores,
            mask,
            masks: if selected.masks.len() > 1 { selected.masks } else { Vec::new() },
            beta: (config.beta != BetaMethod::Zero).then(|| self.beta.report()),
            values: (config.values != ValuesMethod::Copy).then(|| self.values.report()),
            error_target,
            timing,
        }
    }
}

/// The bias that the kept slots carry already; −∞ in slots that only fill up a shorter head.
fn carried_bias(layer: &LayerKv, kept: &Kept) -> Result<Tensor> {
    let (heads, t, device) = (layer.kv_heads(), kept.max_len(), layer.keys.device());
    let carried = match &layer.bias {
        Some(bias) => gather(bias, kept)?,
        None => Tensor::zeros((heads, t), DType::F32, device)?,
    };
    if !kept.is_ragged() {
        return Ok(carried);
    }
    let fill: Vec<f32> = kept
        .lists()
        .iter()
        .flat_map(|list| (0..t).map(|slot| if slot < list.len() { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Ok((carried + Tensor::from_vec(fill, (heads, t), device)?)?)
}

/// Scores at the kept slots: one list, or one for each head where either differs from head to head.
fn importance(kept: &Kept, scores: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let heads = kept.lists().len().max(scores.len());
    (0..heads)
        .map(|head| {
            let scores = &scores[head % scores.len()];
            kept.head(head).iter().map(|slot| scores[*slot as usize]).collect()
        })
        .collect()
}
