//! One decoder layer: attention and MLP, each behind its norm, each added to the residual stream.

use candle_core::Tensor;

use crate::attention::{Attention, Before, Heard};
use crate::buffers;
use crate::cache::LayerCache;
use crate::mlp::FeedForward;
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::residual::Residual;
use crate::rope::Rotations;
use crate::weights::Weights;
use crate::{ModelConfig, Result};

#[derive(Debug)]
pub(crate) struct DecoderLayer {
    pub(crate) attention_norm: RmsNorm,
    pub(crate) attention: Attention,
    /// Behind the attention, in some families.
    pub(crate) attended_norm: Option<RmsNorm>,
    pub(crate) mlp_norm: RmsNorm,
    pub(crate) mlp: FeedForward,
    /// Behind the MLP likewise.
    pub(crate) output_norm: Option<RmsNorm>,
}

impl DecoderLayer {
    pub(crate) fn load(weights: &mut Weights, index: usize, config: &ModelConfig) -> Result<Self> {
        let prefix = format!("model.layers.{index}");
        let names = &config.family.spec().layer_norms;
        let mut norm =
            |name: &str| RmsNorm::load(weights, &format!("{prefix}.{name}"), config.hidden_size, config);
        Ok(Self {
            attention_norm: norm(names.before_attention)?,
            attended_norm: names.behind_attention.map(&mut norm).transpose()?,
            mlp_norm: norm(names.before_mlp)?,
            output_norm: names.behind_mlp.map(&mut norm).transpose()?,
            attention: Attention::load(weights, &format!("{prefix}.self_attn"), index, config)?,
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
        let attended = behind(self.attended_norm.as_ref(), attended)?;
        let (x, normed) = x.add(attended)?.normed(&self.mlp_norm)?;
        let out = behind(self.output_norm.as_ref(), self.mlp.forward(&normed)?)?;
        buffers::give(normed)?;
        Ok((x.add(out)?, heard))
    }

    /// See [`Attention::as_queries`].
    pub(crate) fn as_queries(&self, x: &Tensor, rotations: &Rotations) -> Result<Tensor> {
        self.attention.as_queries(x, rotations)
    }
}

/// A block's output, which nobody else reads any more, behind the norm that follows it, if one does.
fn behind(norm: Option<&RmsNorm>, x: Tensor) -> Result<Tensor> {
    let Some(norm) = norm else { return Ok(x) };
    let normed = norm.forward(&x)?;
    buffers::give(x)?;
    Ok(normed)
}
