//! Expected attention of future queries.

use candle_core::{D, Tensor};

use super::{Budgets, Needs, Picked, Selector};
use crate::error::{AtLayer, Result};
use crate::layout::{LayerKv, to_f32, transposed};
use crate::mask::Ranking;
use crate::registry::{Factory, Spec};
use crate::scene::Scene;

const NAME: &str = "expected-attention";

/// The keys that queries distributed like the context's own would attend to, times the norm of their values (Devoto et
/// al., arXiv 2510.00636; NVIDIA kvpress, `ExpectedAttentionPress`).
///
/// With μ and Σ the mean and covariance of a query head's queries, E exp(c q·k) = exp(c μ·k + c² kᵀΣk/2) where c is the scale. As in kvpress,
/// that is normalised over the keys of each query head, averaged over the group and multiplied by ‖v‖.
///
/// Simplified: the queries are taken as they are, rotated to their own positions, where paper and kvpress average the
/// rotation over the next 512 positions; no sinks are left out of the statistics and of the softmax, where kvpress leaves
/// out 4 and keeps them. Its additive ε is 0, as here. A bias of the cache is added to the exponent. That is no detail: on a
/// real cache these are other slots than kvpress's (`docs/real.md`). Given queries that are averaged so, the slots are the
/// same.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpectedAttention;

pub(super) fn factory() -> Factory {
    let about = "what queries like the context's own are expected to look at";
    Factory::new(NAME, about, |_| Ok(ExpectedAttention))
}

impl Selector for ExpectedAttention {
    fn spec(&self) -> Spec {
        Spec::new(NAME)
    }

    fn needs(&self) -> Needs {
        Needs::CONTEXT
    }

    fn budgets(&self) -> Budgets {
        Budgets::Any
    }

    fn select(&self, scene: &Scene<'_>) -> Result<Picked> {
        let one = |(index, (layer, queries)): (usize, (&LayerKv, &Tensor))| {
            scores(layer, queries, scene.group_size()).at_layer(index)
        };
        let layers = scene.layers().iter().zip(scene.context()?).enumerate();
        let scores = scene.pool_heads(layers.map(one).collect::<Result<Vec<_>>>()?);
        scene.share_out(&scores)?;
        scene.each_head(|layer, head| {
            scene.pick(layer, head, Ranking::by(&scores[layer][head]).padding_last())
        })
    }
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
