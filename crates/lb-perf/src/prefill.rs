//! What a compaction is measured against: reading the trajectory once.

use std::time::Instant;

use candle_core::{DType, Device};
use lb_model::{Checkpoint, Decoder, KvCache, PrefillOptions};
use serde::{Deserialize, Serialize};

use super::checkpoint::{RandomCheckpoint, VOCAB};
use super::scene::SceneConfig;
use super::shape::Shape;
use crate::{Error, Result};

/// Depths at which a sampled prefill reads a chunk.
const DEPTHS: usize = 5;
/// Times that each is read; the shortest counts.
const ROUNDS: usize = 2;

/// How much of a prefill is run; the rest is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum PrefillEffort {
    /// Nothing is run.
    Skip,
    /// One layer, single chunks at several depths of a cache, the time of a chunk fitted as a straight line in its
    /// depth (linear maps, and attention that grows with what lies before).
    Sampled,
    /// One layer, every chunk.
    OneLayer,
    /// Every layer, every chunk: nothing is estimated.
    Full,
}

/// The time to read a trajectory through all layers of a shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrefillTime {
    /// Seconds for all layers; embedding and head belong to no layer and are left out of an estimate.
    pub seconds: f64,
    /// What of it was run.
    pub effort: PrefillEffort,
    /// Layers that were run.
    pub layers_measured: usize,
    /// Layers it stands for.
    pub layers: usize,
    /// Tokens read.
    pub seq_len: usize,
    /// Tokens a forward pass.
    pub chunk: usize,
    /// Where chunks were sampled: depth and seconds of each, one layer.
    pub samples: Vec<(usize, f64)>,
    /// 10⁹ operations of the linear maps a second: what is left of a machine's speed with attention and all else in it.
    pub linear_gflops: f64,
    /// The same with the products of causal attention counted too, which outweigh the linear maps of a small model at length.
    pub gflops: f64,
}

/// Times the prefill of `seq_len` tokens of a model of random weights in `dtype`; `None` where it is to be skipped.
///
/// # Errors
/// [`Error::Config`] for a length of 0 and for a dtype other than f32, bf16 and f16; [`Error::Io`] where the temporary
/// checkpoint cannot be written; [`Error::Model`].
pub fn time_prefill(
    shape: &Shape,
    seq_len: usize,
    dtype: DType,
    device: &Device,
    effort: PrefillEffort,
) -> Result<Option<PrefillTime>> {
    if seq_len == 0 {
        return Err(Error::config("seq_len", seq_len, "must be at least 1"));
    }
    if effort == PrefillEffort::Skip {
        return Ok(None);
    }
    let layers_measured = if effort == PrefillEffort::Full { shape.layers } else { 1 };
    let checkpoint = RandomCheckpoint::write(shape, layers_measured, dtype, seq_len)?;
    let worker = Checkpoint::dir(checkpoint.path())?.load(device, Some(dtype))?;
    let chunk = PrefillOptions::default().chunk;
    let (measured, samples) = match effort {
        PrefillEffort::Sampled => sampled(worker.model(), shape, seq_len, chunk)?,
        _ => (whole(worker.model(), seq_len)?, Vec::new()),
    };
    let seconds = measured * shape.layers as f64 / layers_measured as f64;
    let flops = shape.linear_flops() * (shape.layers * seq_len) as f64;
    let linear_gflops = flops / seconds / 1e9;
    // Half of the scores of all queries and keys, and as much for the values.
    let attention =
        2.0 * (shape.query_heads() * shape.head_dim * shape.layers) as f64 * (seq_len as f64).powi(2);
    let gflops = (flops + attention) / seconds / 1e9;
    let layers = shape.layers;
    let time = PrefillTime {
        seconds,
        effort,
        layers_measured,
        layers,
        seq_len,
        chunk,
        samples,
        linear_gflops,
        gflops,
    };
    Ok(Some(time))
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|index| (index * 7 % VOCAB) as u32).collect()
}

fn whole(model: &Decoder, seq_len: usize) -> Result<f64> {
    let warm_up = tokens(seq_len.min(64));
    model.forward(&warm_up, &mut model.new_cache())?;
    let mut cache = model.new_cache();
    let begin = Instant::now();
    model.prefill(&tokens(seq_len), &mut cache, &PrefillOptions::default(), &mut |_, _| {})?;
    model.device().synchronize()?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Seconds of one layer, and the chunks they were fitted to.
fn sampled(model: &Decoder, shape: &Shape, seq_len: usize, chunk: usize) -> Result<(f64, Vec<(usize, f64)>)> {
    let full_chunks = seq_len / chunk;
    if full_chunks < DEPTHS {
        return Ok((whole(model, seq_len)?, Vec::new()));
    }
    let depths = (0..DEPTHS).map(|index| (full_chunks - 1) * index / (DEPTHS - 1) * chunk);
    let mut caches =
        depths.map(|depth| Ok((depth, cache_of(model, shape, depth)?))).collect::<Result<Vec<_>>>()?;
    let mut samples: Vec<(usize, f64)> = caches.iter().map(|(depth, _)| (*depth, f64::INFINITY)).collect();
    // Every depth in turn, so that a disturbance does not fall on all measurements of one.
    for _ in 0..ROUNDS {
        for ((depth, cache), (_, least)) in caches.iter_mut().zip(&mut samples) {
            let begin = Instant::now();
            model.forward(&tokens(chunk), cache)?;
            model.device().synchronize()?;
            *least = least.min(begin.elapsed().as_secs_f64());
            cache.truncate(*depth)?;
        }
    }
    let points: Vec<(f64, f64)> = samples.iter().map(|(depth, time)| (*depth as f64, *time)).collect();
    let (base, slope) = line(&points);
    let chunks: f64 = (0..full_chunks).map(|index| base + slope * (index * chunk) as f64).sum();
    // The last, shorter chunk at the price of its share of a whole one.
    let rest = (seq_len % chunk) as f64 / chunk as f64;
    Ok((chunks + rest * (base + slope * (full_chunks * chunk) as f64), samples))
}

/// A cache of `depth` random positions.
fn cache_of(model: &Decoder, shape: &Shape, depth: usize) -> Result<KvCache> {
    let mut cache = model.new_cache();
    if depth > 0 {
        let (shape, dtype) = (shape.clone(), model.dtype());
        let scene = SceneConfig { shape, layers: 1, seq_len: depth, task_tokens: 1, dtype, seed: 0 };
        cache.append_layers(&scene.build(model.device())?.layers, depth)?;
    }
    Ok(cache)
}

/// Intercept and slope of the least squares line.
pub(super) fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let along: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = if spread > 0.0 { along / spread } else { 0.0 };
    (mean_y - slope * mean_x, slope)
}
