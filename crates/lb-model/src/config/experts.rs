//! Mixtures of experts.

use super::{Fields, check};
use crate::Result;

/// Which layers are mixtures, of how many experts, and how many of them a token goes to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that each token goes to, at most `count`.
    pub per_token: usize,
    /// Width of one expert's gated MLP.
    pub intermediate_size: usize,
    /// Whether the weights of the chosen experts are scaled to sum up to 1.
    pub normalised: bool,
    /// Every how many layers one is a mixture.
    pub every: usize,
    /// Layers that are dense nevertheless.
    pub dense_layers: Vec<usize>,
}

impl Experts {
    /// Whether `layer` is a mixture.
    pub fn at(&self, layer: usize) -> bool {
        !self.dense_layers.contains(&layer) && (layer + 1).is_multiple_of(self.every)
    }

    /// Missing fields are transformers' defaults.
    pub(super) fn parse(fields: &mut Fields<'_>) -> Result<Self> {
        // transformers 5 renamed the field.
        let renamed: Option<usize> = fields.optional("num_local_experts")?;
        let count: Option<usize> = fields.optional("num_experts")?;
        Ok(Self {
            count: count.or(renamed).unwrap_or(128),
            per_token: fields.take_or("num_experts_per_tok", 8)?,
            intermediate_size: fields.take_or("moe_intermediate_size", 768)?,
            normalised: fields.take_or("norm_topk_prob", false)?,
            every: fields.take_or("decoder_sparse_step", 1)?,
            dense_layers: fields.take_or("mlp_only_layers", Vec::new())?,
        })
    }

    pub(super) fn validate(&self) -> Result<()> {
        check((1..=1 << 16).contains(&self.count), "num_experts", self.count, "1 to 65,536")?;
        let chosen = (1..=self.count).contains(&self.per_token);
        check(chosen, "num_experts_per_tok", self.per_token, "at least 1, at most num_experts")?;
        let (size, field) = (self.intermediate_size, "moe_intermediate_size");
        check(size > 0, field, size, "at least 1")?;
        check(self.every > 0, "decoder_sparse_step", self.every, "at least 1")
    }
}
