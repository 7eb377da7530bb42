//! The gated feed-forward block: `down(silu(gate(x)) * up(x))`.

use candle_core::Tensor;
use candle_nn::{Linear, Module};

use crate::weights::Weights;
use crate::{ModelConfig, Result};

#[derive(Debug)]
pub(crate) struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(crate) fn load(weights: &mut Weights, prefix: &str, config: &ModelConfig) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate: weights.linear(&format!("{prefix}.gate_proj.weight"), hidden, inner)?,
            up: weights.linear(&format!("{prefix}.up_proj.weight"), hidden, inner)?,
            down: weights.linear(&format!("{prefix}.down_proj.weight"), inner, hidden)?,
        })
    }

    /// `x`: `[tokens, hidden]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate.forward(x)?.silu()?;
        Ok(self.down.forward(&(gate * self.up.forward(x)?)?)?)
    }
}
