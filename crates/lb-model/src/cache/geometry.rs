//! The shape of the model that a cache belongs to.

use crate::{LocalAttention, ModelConfig, RopeScaling};

/// What a cache must agree on with the model that reads it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Geometry {
    pub(super) layers: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) rope_theta: f64,
    pub(super) rope_scaling: RopeScaling,
    pub(super) limit: usize,
    /// Of q · k; biases and values of a compacted part hold for this one alone.
    pub(super) scale: f32,
    pub(super) local: Option<LocalAttention>,
}

impl Geometry {
    pub(super) fn of(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            rope_theta: config.rope_theta,
            rope_scaling: config.rope_scaling.clone(),
            limit: config.position_limit(),
            scale: config.attention_scale,
            local: config.local.clone(),
        }
    }
}
