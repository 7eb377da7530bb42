//! Query vectors as compactions take them: rows (head of the group, token), joined, picked, or drawn by lot.

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Decoder, Error, Result};

impl Decoder {
    /// Joins queries that were captured one part after another, so that rows are again ordered (head of the group,
    /// token).
    ///
    /// # Shapes
    /// `parts[p][layer]` is `[kv_heads, group_size * tokens, head_dim]`, any number of tokens in each part.
    ///
    /// # Errors
    /// [`Error::Empty`] without parts, [`Error::Shape`] where a part lacks a layer, [`Error::Tensor`] for other shapes.
    pub fn join_queries(&self, parts: &[Vec<Tensor>]) -> Result<Vec<Tensor>> {
        if parts.is_empty() {
            return Err(Error::Empty { arg: "queries" });
        }
        let layers = self.config().num_hidden_layers;
        if let Some(part) = parts.iter().find(|part| part.len() != layers) {
            let expected = format!("{layers} layers in each part");
            return Err(Error::Shape { arg: "queries", expected, got: vec![part.len()] });
        }
        let of_layer =
            |layer: usize| parts.iter().map(|part: &Vec<Tensor>| part[layer].clone()).collect::<Vec<_>>();
        (0..layers).map(|layer| join(&of_layer(layer), self.config().group_size())).collect()
    }

    /// The queries of some tokens, the same ones for every layer and head.
    ///
    /// # Shapes
    /// `queries[layer]` is `[kv_heads, group_size * tokens, head_dim]`, `tokens` indices below the number of tokens.
    ///
    /// # Errors
    /// [`Error::Empty`] without tokens, [`Error::Tensor`] for an index out of range or other shapes.
    pub fn pick_queries(&self, queries: &[Tensor], tokens: &[u32]) -> Result<Vec<Tensor>> {
        if tokens.is_empty() {
            return Err(Error::Empty { arg: "tokens" });
        }
        let group = self.config().group_size();
        let pick = |q: &Tensor| -> Result<Tensor> {
            let (heads, _, d) = q.dims3()?;
            let index = Tensor::new(tokens, q.device())?;
            Ok(q.reshape((heads, group, (), d))?.index_select(&index, 2)?.reshape((heads, (), d))?)
        };
        queries.iter().map(pick).collect()
    }

    /// Normal vectors that went through each layer's query norm and the rotation of the positions from `position` on:
    /// queries of the right length and frame that ask for nothing (AM, arXiv 2602.16284, reference queries).
    ///
    /// # Shapes
    /// Per layer `[kv_heads, group_size * count, head_dim]` in the model's dtype.
    ///
    /// # Errors
    /// [`Error::Empty`] for a count of 0, [`Error::ContextOverflow`].
    pub fn random_queries(&self, count: usize, position: usize, seed: u64) -> Result<Vec<Tensor>> {
        let config = self.config();
        let (positions, limit) = (position.saturating_add(count), config.position_limit());
        if count == 0 {
            return Err(Error::Empty { arg: "count" });
        }
        if positions > limit {
            return Err(Error::ContextOverflow { positions, limit });
        }
        let rotations = self.ropes.at(position, count)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let shape = (1, config.num_attention_heads, count, config.head_dim);
        let mut draw = || -> Result<Tensor> {
            let numbers = normal(&mut rng, config.num_attention_heads * count * config.head_dim);
            let x = Tensor::from_vec(numbers, shape, self.device())?;
            Ok(x.to_dtype(self.compute_dtype())?)
        };
        self.layers.iter().map(|layer| layer.as_queries(&draw()?, &rotations)).collect()
    }
}

/// Joins one layer's parts of `[kv_heads, group_size * tokens, d]` so that rows are again (head, token).
pub(crate) fn join(parts: &[Tensor], group: usize) -> Result<Tensor> {
    if let [only] = parts {
        return Ok(only.clone());
    }
    let split = parts
        .iter()
        .map(|q| q.reshape((q.dim(0)?, group, (), q.dim(2)?)))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let joined = Tensor::cat(&split, 2)?;
    let (heads, _, _, d) = joined.dims4()?;
    Ok(joined.reshape((heads, (), d))?)
}

/// Standard normal numbers, two at a time (Box and Muller).
pub(crate) fn normal(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        numbers.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    numbers.truncate(count);
    numbers
}
