//! The fits of all layers: every head is a piece of work of its own.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use lb_kernels::{CpuTensors, contiguous_heads};
use rayon::prelude::*;

use super::fit::{Buffers, Head, HeadFit};
use super::gather::{gather, stacked};
use crate::backend::{FitInput, Fitted};
use crate::compacted::{CompactedLayer, Timing};
use crate::config::BetaMethod;
use crate::error::{AtLayer, Result};
use crate::fits::{Pull, ValuesPart};
use crate::kept::Kept;
use crate::layout::carried_bias;
use crate::observed::Observed;

/// Fits every layer, head by head.
pub(super) fn fit(input: &FitInput<'_>, timing: &mut Timing) -> Result<Fitted> {
    let mut fitted = Fitted::default();
    let together = layers_together(input.layers[0].kv_heads());
    for first in (0..input.layers.len()).step_by(together) {
        let some = first..(first + together).min(input.layers.len());
        let cuts = some.map(|index| Cut::new(input, index)).collect::<Result<Vec<_>>>()?;
        let fits = fit_layers(input, first, &cuts, timing)?;
        for (cut, fits) in cuts.into_iter().zip(fits) {
            if cut.shorter {
                count(&mut fitted, &fits, input);
            }
            fitted.layers.push(cut.assemble(&fits)?);
        }
    }
    Ok(fitted)
}

/// Adds the heads of one layer to the report.
fn count(sums: &mut Fitted, fits: &[HeadFit], input: &FitInput<'_>) {
    if input.config.beta != BetaMethod::Zero {
        let steps = input.beta_steps().unwrap_or(0);
        for fit in fits {
            sums.beta.add(&fit.beta, steps);
        }
    }
    let parts: Vec<ValuesPart> = fits.iter().map(|fit| fit.value).collect();
    if let Some(pull) = Pull::of(input.config.values) {
        sums.values.add_layer(&parts, pull.lambda, pull.exponent);
    }
}

/// A layer whose kept rows were copied.
struct Cut {
    /// `[heads, t, d]`, as they are stored.
    keys: Tensor,
    /// Like `keys`.
    values: Tensor,
    /// `[heads, t]`, f32.
    bias: Tensor,
    kept: Kept,
    /// Of q · k.
    scale: f32,
    /// Whether something is missing, so that there is something to correct.
    shorter: bool,
}

/// A layer's tensors as the fits read them: keys, values, queries, maxima, mass and, where values are fitted, output.
struct Layer {
    tensors: Vec<Tensor>,
    bias: Vec<Vec<f32>>,
}

/// A layer held for reading.
struct Open<'a> {
    held: CpuTensors<'a>,
    with_output: bool,
    bias: &'a [Vec<f32>],
}

/// Layers to fit at a time: enough pieces of work for every thread, and few, as their results are there twice for a while.
fn layers_together(kv_heads: usize) -> usize {
    const PIECES: usize = 4;
    (PIECES * rayon::current_num_threads()).div_ceil(kv_heads.max(1))
}

/// Fits the heads of those layers from `first` on that are shorter than before; by layer and head.
fn fit_layers(
    input: &FitInput<'_>,
    first: usize,
    cuts: &[Cut],
    timing: &mut Timing,
) -> Result<Vec<Vec<HeadFit>>> {
    let layer = |(cut, index): (&Cut, usize)| {
        Layer::new(cut, &input.queries[index], &input.observed[index]).at_layer(index)
    };
    let layers = cuts.iter().zip(first..).map(layer).collect::<Result<Vec<_>>>()?;
    let open = layers.iter().map(Layer::open).collect::<Result<Vec<_>>>()?;
    let heads = |index: usize| if cuts[index].shorter { input.layers[first + index].kv_heads() } else { 0 };
    let pieces: Vec<(usize, usize)> =
        (0..cuts.len()).flat_map(|index| (0..heads(index)).map(move |head| (index, head))).collect();
    let start = Instant::now();
    let fits = pieces
        .par_iter()
        .map_init(Buffers::default, |buffers, &(index, head)| {
            let scores = input.importance(first + index);
            let scores = &scores[head % scores.len()];
            open[index].fit(input, &cuts[index], head, scores, buffers).at_layer(first + index)
        })
        .collect::<Result<Vec<_>>>()?;
    share(start.elapsed(), &fits, timing);
    let mut fits = fits.into_iter();
    Ok((0..cuts.len()).map(|index| fits.by_ref().take(heads(index)).collect()).collect())
}

/// Heads are fitted side by side: the time that passed is divided as the work was.
fn share(elapsed: Duration, fits: &[HeadFit], timing: &mut Timing) {
    let beta: Duration = fits.iter().map(|fit| fit.beta_time).sum();
    let values: Duration = fits.iter().map(|fit| fit.values_time).sum();
    let beta = elapsed.mul_f64(beta.as_secs_f64() / (beta + values).as_secs_f64().max(f64::MIN_POSITIVE));
    timing.beta += beta;
    timing.values += elapsed.saturating_sub(beta);
}

impl Layer {
    fn new(cut: &Cut, queries: &Tensor, observed: &Observed) -> Result<Self> {
        let queries = queries.to_dtype(DType::F32)?;
        let all = [&cut.keys, &cut.values, &queries, &observed.max, &observed.mass].into_iter();
        let tensors = all.chain(&observed.output).map(contiguous_heads).collect::<lb_kernels::Result<_>>()?;
        Ok(Self { tensors, bias: cut.bias.to_vec2()? })
    }

    fn open(&self) -> Result<Open<'_>> {
        let tensors: Vec<&Tensor> = self.tensors.iter().collect();
        Ok(Open { held: CpuTensors::new(&tensors)?, with_output: tensors.len() == 6, bias: &self.bias })
    }
}

impl Open<'_> {
    fn fit(
        &self,
        input: &FitInput<'_>,
        cut: &Cut,
        head: usize,
        scores: &[f32],
        buffers: &mut Buffers,
    ) -> Result<HeadFit> {
        let slots = cut.kept.head(head);
        let head_dim = cut.keys.dim(2)?;
        let mut wide = std::mem::take(&mut buffers.wide);
        let [keys, values, queries, max, mass, output] = &mut wide;
        let importance: Vec<f32> = slots.iter().map(|slot| scores[*slot as usize]).collect();
        let live = slots.len() * head_dim;
        let output = if self.with_output { Some(self.held.head(5, head)?.as_f32(output)) } else { None };
        let fit = Head {
            queries: self.held.head(2, head)?.as_f32(queries),
            keys: self.held.head(0, head)?.range(0, live).as_f32(keys),
            values: self.held.head(1, head)?.range(0, live).as_f32(values),
            carried: &self.bias[head][..slots.len()],
            importance: &importance,
            max: self.held.head(3, head)?.as_f32(max),
            mass: self.held.head(4, head)?.as_f32(mass),
            output,
            width: head_dim,
            scale: cut.scale,
            dtype: cut.keys.dtype(),
        }
        .fit(input.config, input.beta_steps(), buffers);
        buffers.wide = wide;
        fit
    }
}

impl Cut {
    fn new(input: &FitInput<'_>, index: usize) -> Result<Self> {
        let (layer, kept) = (&input.layers[index], input.kept[index].clone());
        let keys = input.keys.map(|keys| keys[index].clone());
        Ok(Self {
            keys: keys.map_or_else(|| gather(&layer.keys, &kept), Ok)?,
            values: gather(&layer.values, &kept)?,
            bias: carried_bias(layer, &kept, &gather)?,
            shorter: input.is_shorter(index),
            scale: layer.scale,
            kept,
        })
    }

    /// The fitted layer: biases of −∞ where a head is shorter than another, and values where they were fitted.
    fn assemble(self, fits: &[HeadFit]) -> Result<CompactedLayer> {
        let Self { keys, values, bias, kept, scale, shorter } = self;
        if !shorter {
            return Ok(CompactedLayer { keys, values, bias, kept, scale, packed: None });
        }
        let (heads, t, d) = keys.dims3()?;
        let mut biases = Vec::with_capacity(heads * t);
        for fit in fits {
            biases.extend_from_slice(&fit.bias);
            biases.resize(biases.len().next_multiple_of(t), f32::NEG_INFINITY);
        }
        let bias = Tensor::from_vec(biases, (heads, t), &Device::Cpu)?;
        let fitted: Vec<&[f32]> = fits.iter().map(|fit| &fit.values[..]).collect();
        let values = if fitted.iter().all(|values| values.is_empty()) {
            values
        } else {
            stacked(&fitted, (heads, t, d), keys.dtype())?
        };
        Ok(CompactedLayer { keys, values, bias, kept, scale, packed: None })
    }
}
