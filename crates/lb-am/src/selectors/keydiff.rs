//! KeyDiff: keys unlike the others.

use rayon::prelude::*;

use super::{Budgets, Needs, Picked, Selector};
use crate::error::{AtLayer, Result};
use crate::layout::{LayerKv, to_f32};
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "keydiff";
/// Stands in for the norm of a key or a mean of zeros.
const TINY: f64 = 1e-12;

/// The keys that are least like the others of their head: 1 − cos(k, μ), where μ is the mean of all keys divided by their
/// norms (Park et al., arXiv 2504.15364, section 3; NVIDIA kvpress, `KeyDiffPress`).
///
/// Simplified: the paper evicts block by block while a prompt is read; here, as in kvpress without its `BlockPress`, the cut
/// is made once. No attention is computed, so a bias of the cache has no say. Padding has no part in the mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyDiff;

pub(super) fn factory() -> Factory {
    Factory::new(NAME, "keys unlike the others", |_| Ok(KeyDiff))
}

impl Selector for KeyDiff {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let of_layer = |(index, layer): (usize, &LayerKv)| -> Result<Vec<Vec<f64>>> {
            let keys = to_f32(&layer.keys)?.flatten_all()?.to_vec1::<f32>()?;
            let heads = keys.par_chunks(layer.seq_len() * layer.head_dim()).enumerate();
            let one = |(head, keys): (usize, &[f32])| {
                unlikeness(keys, layer.head_dim(), |slot| scene.is_padding(index, head, slot))
            };
            Ok(heads.map(one).collect())
        };
        let layers = scene.layers().par_iter().enumerate();
        let scores = layers.map(|(index, layer)| of_layer((index, layer)).at_layer(index));
        let scores = scene.pool_heads(scores.collect::<Result<Vec<_>>>()?);
        scene.share_out(&scores)?;
        scene.each_head(|layer, head| {
            scene.pick(layer, head, Ranking::by(&scores[layer][head]).padding_last())
        })
    }
}

/// 1 − the cosine of each of the keys `[slots, width]` with their mean direction, 0 to 2.
fn unlikeness(keys: &[f32], width: usize, is_padding: impl Fn(usize) -> bool) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum() };
    let norm = |key: &[f32]| key.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(TINY);
    let mut mean = vec![0.0; width];
    for (_, key) in keys.chunks_exact(width).enumerate().filter(|(slot, _)| !is_padding(*slot)) {
        let norm = norm(key);
        mean.iter_mut().zip(key).for_each(|(sum, x)| *sum += f64::from(*x) / norm);
    }
    // Its length does not matter to a cosine.
    let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt().max(TINY);
    keys.chunks_exact(width).map(|key| 1.0 - dot(key, &mean) / (norm(key) * length)).collect()
}
