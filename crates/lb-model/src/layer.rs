//! One decoder layer: attention and MLP, each behind its norm, each added to the residual stream.

use candle_core::Tensor;

use crate::attention::{Attention, Before, Heard};
use crate::buffers;
use crate::cache::LayerCache;
use crate::mlp::FeedForward;
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::residual::Residual;
use crate::rope::Rotation;
use crate::weights::Weights;
use crate::{ModelConfig, Result};

#[derive(Debug)]
pub(crate) struct DecoderLayer {
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: FeedForward,
}

impl DecoderLayer {
    pub(crate) fn load(weights: &mut Weights, index: usize, config: &ModelConfig) -> Result<Self> {
        let prefix = format!("model.layers.{index}");
        let (width, eps) = (config.hidden_size, config.rms_norm_eps);
        Ok(Self {
            attention_norm: RmsNorm::load(weights, &format!("{prefix}.input_layernorm.weight"), width, eps)?,
            attention: Attention::load(weights, &format!("{prefix}.self_attn"), config)?,
            mlp_norm: RmsNorm::load(
                weights,
                &format!("{prefix}.post_attention_layernorm.weight"),
                width,
                eps,
            )?,
            mlp: FeedForward::load(weights, &format!("{prefix}.mlp"), index, config)?,
        })
    }

    /// `x`: `[rows, hidden]`, and `caches` by sequence. Appends the tokens' keys and values to them. Returns the new
    /// residual stream and what each sequence asked, whose queries `before` hears first.
    pub(crate) fn forward(
        &self,
        x: Residual,
        pass: &Pass,
        caches: &mut [&mut LayerCache],
        before: Before<'_>,
    ) -> Result<(Residual, Vec<Heard>)> {
        let (x, normed) = x.normed(&self.attention_norm)?;
        let (attended, heard) = self.attention.forward(&normed, pass, caches, before)?;
        buffers::give(normed)?;
        let (x, normed) = x.add(attended)?.normed(&self.mlp_norm)?;
        let x = x.add(self.mlp.forward(&normed)?)?;
        buffers::give(normed)?;
        Ok((x, heard))
    }

    /// See [`Attention::as_queries`].
    pub(crate) fn as_queries(&self, x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
        self.attention.as_queries(x, rotation)
    }
}
