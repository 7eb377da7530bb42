//! What does not stay is folded into what does: values and biases of kept slots before anything is fitted.

mod backfill;
mod merge;
mod nearest;

use std::borrow::Cow;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::config::Folding;
use crate::error::{AtLayer, Result};
use crate::kept::Kept;
use crate::layout::{LayerKv, to_f32};
use crate::scene::Scene;

/// One head of a cache, and who takes what from whom.
struct Head<'a> {
    /// `[slots, width]`.
    keys: &'a [f32],
    /// Likewise; rows of kept slots change.
    values: &'a mut [f32],
    /// One for each slot; those of kept slots change.
    bias: &'a mut [f32],
    /// The queries' attention to each slot.
    scores: &'a [f32],
    width: usize,
    /// Kept slots that take something, ascending.
    into: Vec<usize>,
    /// Slots that go, padding left out, ascending.
    gone: Vec<usize>,
}

/// The layers with kept slots as the configuration's folding has them; all else is as it was, keys above all.
///
/// # Numerics
///
/// Similarities in f32, sums in f64 in the order of slots; values are rounded to the cache's dtype once. Heads are
/// independent of each other, so that the number of threads changes nothing.
pub(crate) fn fold<'a>(scene: &Scene<'a>, kept: &[Kept]) -> Result<Cow<'a, [LayerKv]>> {
    let layers = scene.layers();
    if scene.config().folding == Folding::None {
        return Ok(Cow::Borrowed(layers));
    }
    let one = |index: usize| fold_layer(scene, index, &kept[index]).at_layer(index);
    Ok(Cow::Owned((0..layers.len()).map(one).collect::<Result<_>>()?))
}

fn fold_layer(scene: &Scene<'_>, index: usize, kept: &Kept) -> Result<LayerKv> {
    let layer = &scene.layers()[index];
    let (slots, width) = (layer.seq_len(), layer.head_dim());
    let lists = (0..layer.kv_heads()).map(|head| {
        let (into, gone) = into_and_gone(scene, index, head, kept.head(head));
        if into.is_empty() { (into, Vec::new()) } else { (into, gone) }
    });
    let lists: Vec<(Vec<usize>, Vec<usize>)> = lists.collect();
    if lists.iter().all(|(_, gone)| gone.is_empty()) {
        return Ok(layer.clone());
    }
    let (keys, mut values) = (flat(&layer.keys)?, flat(&layer.values)?);
    let mut bias = match &layer.bias {
        Some(bias) => flat(bias)?,
        None => vec![0.0; layer.kv_heads() * slots],
    };
    let scores = scene.observed(index).scores();
    let parts = keys.par_chunks(slots * width).zip(values.par_chunks_mut(slots * width));
    let parts = parts.zip(bias.par_chunks_mut(slots)).zip(lists.into_par_iter().zip(scores));
    parts.for_each(|(((keys, values), bias), ((into, gone), scores))| {
        if !gone.is_empty() {
            Head { keys, values, bias, scores, width, into, gone }.fold(scene.config().folding);
        }
    });
    let (shape, device) = (layer.keys.dims3()?, layer.keys.device());
    let values = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(layer.dtype())?.to_device(device)?;
    let bias = Tensor::from_vec(bias, (shape.0, slots), device)?;
    Ok(LayerKv::new(layer.keys.clone(), values, Some(bias))?.with_scale(layer.scale))
}

/// Who takes something in a head, and who goes.
fn into_and_gone(scene: &Scene<'_>, layer: usize, head: usize, kept: &[u32]) -> (Vec<usize>, Vec<usize>) {
    let slots = scene.layers()[layer].seq_len();
    let mut stays = vec![false; slots];
    for slot in kept {
        stays[*slot as usize] = true;
    }
    let live = (0..slots).filter(|slot| !scene.is_padding(layer, head, *slot));
    let (into, gone): (Vec<usize>, Vec<usize>) = live.partition(|slot| stays[*slot]);
    let sinks = scene.config().protect.first;
    (into.into_iter().filter(|slot| *slot >= sinks).collect(), gone)
}

/// In f32, in the memory of the host.
fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(to_f32(tensor)?.flatten_all()?.to_vec1()?)
}

impl Head<'_> {
    fn fold(mut self, folding: Folding) {
        match folding {
            Folding::None => {}
            Folding::Mass => merge::mass(self),
            Folding::Similar { threshold } => merge::similar(self, threshold),
            Folding::Backfill { rank } => backfill::backfill(&mut self, rank),
        }
    }
}

/// A row of a matrix.
fn row(rows: &[f32], width: usize, slot: usize) -> &[f32] {
    &rows[slot * width..][..width]
}
