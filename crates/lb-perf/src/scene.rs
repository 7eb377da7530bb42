//! Random caches of any size, and a task's queries that look at some of their positions.

use candle_core::{DType, Device, Tensor};
use lb_am::LayerKv;

use super::noise::{Noise, by_rows};
use super::shape::Shape;
use crate::{Error, Result};

/// Topics of a layer: directions that keys and queries have in common.
const TOPICS: usize = 16;
/// Positions in a row that share a topic.
const RUN: usize = 32;
/// Topics that a task asks about.
const ASKED: usize = 4;
/// Standard deviation of a topic's direction, and of what a key or a value adds to it.
const CENTRE: f32 = 0.6;
const SPREAD: f32 = 0.8;
/// How strongly a query points to its topic.
const AIM: f32 = 0.9;
/// The largest cache that is made.
const MOST_BYTES: usize = 16 << 30;
/// The most logits of a head, which the serial order holds several times over.
const MOST_LOGITS: usize = 1 << 29;

/// What a [`Scene`] is made from.
#[derive(Clone, Debug)]
pub struct SceneConfig {
    /// Sizes of the model.
    pub shape: Shape,
    /// Layers that are made, at least 1.
    pub layers: usize,
    /// Positions in the cache, at least 1.
    pub seq_len: usize,
    /// Tokens of the task, at least 1.
    pub task_tokens: usize,
    /// Of keys and values: f32, bf16 or f16.
    pub dtype: DType,
    /// The same seed gives the same numbers.
    pub seed: u64,
}

/// The cache of some layers and a task's queries.
#[derive(Clone, Debug)]
pub struct Scene {
    /// One entry per layer, each `[kv_heads, seq_len, head_dim]`.
    pub layers: Vec<LayerKv>,
    /// One entry per layer, `[kv_heads, group_size * task_tokens, head_dim]`, in the cache's dtype, as a model that computes
    /// in it hands them out.
    pub queries: Vec<Tensor>,
}

impl SceneConfig {
    /// Bytes of the keys and values; `None` where they overflow.
    pub fn bytes(&self) -> Option<usize> {
        [self.layers, self.seq_len, self.dtype.size_in_bytes()]
            .into_iter()
            .try_fold(self.shape.per_position(), usize::checked_mul)
    }

    /// Queries of a KV head.
    pub fn n_queries(&self) -> usize {
        self.shape.group_size.saturating_mul(self.task_tokens)
    }

    /// Makes cache and queries.
    ///
    /// Keys gather around a few directions that runs of positions share and queries point to some of them, so that the
    /// softmax has peaks and a tail as on text; values follow the same topics.
    ///
    /// # Errors
    /// [`Error::Config`] for a count of 0, another dtype, a cache above 16 GiB and more than 2²⁹ logits a KV head;
    /// [`Error::Tensor`] where the device
    /// has too little memory.
    pub fn build(&self, device: &Device) -> Result<Scene> {
        for (field, value) in
            [("layers", self.layers), ("seq_len", self.seq_len), ("task_tokens", self.task_tokens)]
        {
            if value == 0 || value > 1 << 24 {
                return Err(Error::config(field, value, "must be within 1..=16777216"));
            }
        }
        if self.bytes().is_none_or(|bytes| bytes > MOST_BYTES) {
            let size = format!("{} x {}", self.layers, self.seq_len);
            return Err(Error::config(
                "layers x seq_len",
                size,
                "a cache of more than 16 GiB; use fewer layers",
            ));
        }
        if self.n_queries().saturating_mul(self.seq_len) > MOST_LOGITS {
            let size = format!("{} x {}", self.task_tokens, self.seq_len);
            let reason = "more than 2^29 logits a KV head; use fewer task tokens";
            return Err(Error::config("task_tokens x seq_len", size, reason));
        }
        let mut scene = Scene { layers: Vec::new(), queries: Vec::new() };
        for index in 0..self.layers {
            let noise = Noise::new(self.seed).part(index);
            scene.layers.push(self.layer(noise, device)?);
            scene.queries.push(self.queries(noise, device)?);
        }
        Ok(scene)
    }

    fn layer(&self, noise: Noise, device: &Device) -> Result<LayerKv> {
        let (heads, slots, width) = (self.shape.kv_heads, self.seq_len, self.shape.head_dim);
        let tensor = |part: usize| {
            by_rows(&[heads, slots, width], self.dtype, device, |row, out| {
                let (head, slot) = (row / slots, row % slots);
                let centre = centre(noise, part, head, topic(noise, slot));
                let own = noise.part(3 + part).part(row);
                for (index, out) in out.iter_mut().enumerate() {
                    *out = CENTRE * centre.normal(index) + SPREAD * own.normal(index);
                }
            })
        };
        Ok(LayerKv::new(tensor(0)?, tensor(1)?, None)?)
    }

    fn queries(&self, noise: Noise, device: &Device) -> Result<Tensor> {
        let (heads, rows, width) = (self.shape.kv_heads, self.n_queries(), self.shape.head_dim);
        by_rows(&[heads, rows, width], self.dtype, device, |row, out| {
            let (head, query) = (row / rows, row % rows);
            let asked = topic(noise, RUN * (query % ASKED));
            let centre = centre(noise, 0, head, asked);
            let own = noise.part(5).part(row);
            for (index, out) in out.iter_mut().enumerate() {
                *out = AIM * centre.normal(index) + own.normal(index);
            }
        })
    }
}

/// The topic that the run of `slot` is about, the same in all heads of a layer.
fn topic(noise: Noise, slot: usize) -> usize {
    noise.part(2).bits(slot / RUN) as usize % TOPICS
}

/// Direction of a topic in a head, for keys (part 0) or values (part 1).
fn centre(noise: Noise, part: usize, head: usize, topic: usize) -> Noise {
    noise.part(6 + part).part(head * TOPICS + topic)
}
