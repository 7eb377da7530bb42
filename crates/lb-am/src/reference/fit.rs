//! Biases and values by tensor operations, layer by layer, all heads at once.

use super::beta::{fit_beta, stored_bias};
use super::softmax::{logits, probabilities, weights_at};
use super::values::fit_values;
use crate::backend::{FitInput, Fitted};
use crate::compacted::{CompactedLayer, Timing, timed};
use crate::error::{AtLayer, Result};
use crate::kept::Kept;
use crate::layout::{carried_bias, to_f32};

/// Fits every layer.
pub(super) fn fit(input: &FitInput<'_>, timing: &mut Timing) -> Result<Fitted> {
    let mut fitted = Fitted::default();
    for index in 0..input.layers.len() {
        let layer = one_layer(&mut fitted, input, index, timing).at_layer(index)?;
        fitted.layers.push(layer);
    }
    Ok(fitted)
}

fn one_layer(
    sums: &mut Fitted,
    input: &FitInput<'_>,
    index: usize,
    timing: &mut Timing,
) -> Result<CompactedLayer> {
    let (layer, observed, config) = (&input.layers[index], &input.observed[index], input.config);
    let (kept, scale) = (input.kept[index].clone(), layer.scale);
    let keys = match input.keys {
        Some(keys) => keys[index].clone(),
        None => super::gather(&layer.keys, &kept)?,
    };
    let values = super::gather(&layer.values, &kept)?.to_dtype(keys.dtype())?;
    let carried = carried_bias(layer, &kept, &super::gather)?;
    // Nothing is missing, so there is nothing to correct; a fit could only add rounding.
    if !input.is_shorter(index) {
        return Ok(CompactedLayer { keys, values, bias: carried, kept, scale, packed: None });
    }
    let (wide, queries) = (to_f32(&keys)?, to_f32(&input.queries[index])?);
    let bias = timed(&mut timing.beta, || {
        let scores = logits(&queries, &wide, Some(&carried), scale)?;
        let weights = weights_at(&scores, &observed.max)?;
        let beta = fit_beta(&weights, &observed.mass, input.beta_steps(), config.beta, &mut sums.beta)?;
        stored_bias(&carried, beta.as_ref(), keys.dtype())
    })?;
    let fitted = match &observed.output {
        None => None,
        Some(target) => timed(&mut timing.values, || {
            let attention = probabilities(&logits(&queries, &wide, Some(&bias), scale)?)?;
            let importance = importance(&kept, input.importance(index));
            fit_values(&attention, target, &values, &importance, config.values, &mut sums.values)
        })?,
    };
    Ok(CompactedLayer { keys, values: fitted.unwrap_or(values), bias, kept, scale, packed: None })
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
