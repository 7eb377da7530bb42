//! Expected attention of future queries.

use candle_core::{D, Tensor};

use super::Scene;
use crate::error::{AtLayer, Result};
use crate::kept::Kept;
use crate::layout::{LayerKv, to_f32, transposed};

/// The keys that queries distributed like the context's own would attend to, times the norm of their values (Devoto et
/// al., arXiv 2510.00636; NVIDIA kvpress, `ExpectedAttentionPress`).
///
/// With μ and Σ the mean and covariance of a query head's queries, E exp(c q·k) = exp(c μ·k + c² kᵀΣk/2) where c is the scale. As in kvpress,
/// that is normalised over the keys of each query head, averaged over the group and multiplied by ‖v‖.
///
/// Simplified: the queries are taken as they are, rotated to their own positions, where the paper averages the rotation
/// over positions to come; no sinks are left out of the statistics, and the additive ε of kvpress is 0. A bias of the
/// cache is added to the exponent.
pub(super) fn select(scene: &Scene<'_>) -> Result<Vec<Kept>> {
    let contexts = scene.observation.context.unwrap_or(&[]);
    let group = scene.observation.group_size;
    let one = |(index, (layer, queries)): (usize, (&LayerKv, &Tensor))| {
        scores(layer, queries, group).at_layer(index)
    };
    let all = scene.layers().iter().zip(contexts).enumerate().map(one).collect::<Result<Vec<_>>>()?;
    scene.pick_all(&all, |layer| scene.budget(layer))
}

/// Scores `[head][slot]` of one layer.
fn scores(layer: &LayerKv, queries: &Tensor, group: usize) -> Result<Vec<Vec<f64>>> {
    let (heads, slots, width) = layer.keys.dims3()?;
    let queries = (to_f32(queries)?.reshape((heads * group, slots, width))? * f64::from(layer.scale))?;
    let mean = queries.mean_keepdim(1)?;
    let centred = queries.broadcast_sub(&mean)?;
    let covariance = (transposed(&centred)?.contiguous()?.matmul(&centred)? / slots as f64)?;
    let (keys, norms) = (to_f32(&layer.keys)?, to_f32(&layer.values)?.sqr()?.sum(D::Minus1)?.sqrt()?);
    let norms = norms.to_vec2::<f32>()?;
    let bias = layer.bias.as_ref().map(Tensor::to_vec2::<f32>).transpose()?;
    let mut all = Vec::with_capacity(heads);
    for head in 0..heads {
        let keys = keys.get(head)?;
        let mut shares = vec![0.0; slots];
        for row in head * group..(head + 1) * group {
            let linear = keys.matmul(&transposed(&mean.get(row)?)?.contiguous()?)?.squeeze(1)?;
            let spread = (keys.matmul(&covariance.get(row)?)? * &keys)?.sum(D::Minus1)?;
            let exponents = (linear + (spread * 0.5)?)?.to_vec1::<f32>()?;
            let bias = |slot: usize| bias.as_ref().map_or(0.0, |bias| f64::from(bias[head][slot]));
            let exponents: Vec<f64> =
                exponents.iter().enumerate().map(|(slot, e)| f64::from(*e) + bias(slot)).collect();
            let max = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mass: f64 = exponents.iter().map(|e| (e - max).exp()).sum();
            shares.iter_mut().zip(exponents).for_each(|(share, e)| *share += (e - max).exp() / mass);
        }
        all.push(shares.iter().zip(&norms[head]).map(|(share, norm)| share * f64::from(*norm)).collect());
    }
    Ok(all)
}
