//! Biases and values of every layer for a selection, and the report on them.

use crate::backend::{FitInput, Fitted};
use crate::compacted::{Report, Timing, timed};
use crate::config::{BetaMethod, ValuesMethod};
use crate::error::{AtLayer, Error, Result};
use crate::error_target::ErrorTarget;
use crate::folding::fold;
use crate::kept::Kept;
use crate::layout::{LayerKv, all_finite};
use crate::packing::{pack_keys, pack_values};
use crate::scene::Scene;
use crate::selected::Selected;

/// Folds what does not stay as configured, and fits biases and values of every layer to a selection.
pub(crate) fn fit_all(scene: &Scene<'_>, selected: &Selected, timing: &mut Timing) -> Result<Fitted> {
    let kept: Vec<Kept> =
        (0..scene.layers.len()).map(|index| selected.kept[index % selected.kept.len()].clone()).collect();
    for (index, (padding, kept)) in scene.padding.iter().zip(&kept).enumerate() {
        if !padding.leaves_life(kept) {
            return Err(Error::Empty { arg: "a head that keeps nothing but padding" }).at_layer(index);
        }
    }
    let layers = timed(&mut timing.mask, || fold(scene, &kept))?;
    let packed = match scene.bits {
        Some(bits) => Some(timed(&mut timing.beta, || pack_keys(scene.backend, &layers, &kept, bits))?),
        None => None,
    };
    let input = FitInput {
        layers: &layers,
        queries: scene.queries,
        observed: scene.observed,
        kept: &kept,
        keys: packed.as_ref().map(|(_, keys)| &keys[..]),
        importance: &selected.importance,
        config: scene.config,
    };
    let mut fitted = scene.backend.fit(&input, timing)?;
    fitted.check(&input)?;
    for (index, layer) in fitted.layers.iter().enumerate() {
        all_finite(scene.backend, "fitted values", &layer.values, index)?;
    }
    if let Some((packed, _)) = packed {
        let unpacked =
            std::mem::take(&mut fitted.layers).into_iter().zip(packed).zip(layers.iter()).enumerate();
        let store = |(index, ((fitted, keys), layer))| pack_values(fitted, keys, layer).at_layer(index);
        fitted.layers = timed(&mut timing.values, || unpacked.map(store).collect())?;
    }
    Ok(fitted)
}

/// What a compaction did.
pub(crate) fn report(
    fitted: &Fitted,
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
        beta: (config.beta != BetaMethod::Zero).then(|| fitted.beta.report()),
        values: (config.values != ValuesMethod::Copy).then(|| fitted.values.report()),
        error_target,
        timing,
    }
}
