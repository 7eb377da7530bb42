//! One decoder layer of steps that have gradients.

use candle_core::{DType, Tensor};
use lb_am::LayerKv;

use super::linear::Frozen;
use super::steps::{normed, softmax, turned};
use crate::config::Activation;
use crate::layer::DecoderLayer;
use crate::mlp::{FeedForward, activated};
use crate::norm::RmsNorm;
use crate::rope::Rotation;
use crate::{Error, ModelConfig, Result};

/// The weights of a layer.
#[derive(Debug)]
pub(super) struct Block {
    attention_norm: Tensor,
    attended_norm: Option<Tensor>,
    mlp_norm: Tensor,
    output_norm: Option<Tensor>,
    q: Frozen,
    k: Frozen,
    v: Frozen,
    o: Frozen,
    q_norm: Option<Tensor>,
    k_norm: Option<Tensor>,
    activation: Activation,
    gate: Frozen,
    up: Frozen,
    down: Frozen,
    heads: usize,
    kv_heads: usize,
    scale: f64,
    eps: f64,
}

impl Block {
    pub(super) fn of(layer: &DecoderLayer, config: &ModelConfig, dtype: DType) -> Result<Self> {
        let FeedForward::Dense(mlp) = &layer.mlp else {
            return Err(Error::Empty { arg: "mlp" });
        };
        let attention = &layer.attention;
        let gain = |norm: &RmsNorm| norm.gain.to_dtype(dtype);
        let optional = |norm: &Option<RmsNorm>| norm.as_ref().map(gain).transpose();
        Ok(Self {
            attention_norm: gain(&layer.attention_norm)?,
            attended_norm: optional(&layer.attended_norm)?,
            mlp_norm: gain(&layer.mlp_norm)?,
            output_norm: optional(&layer.output_norm)?,
            q: Frozen::of(&attention.q_proj, dtype)?,
            k: Frozen::of(&attention.k_proj, dtype)?,
            v: Frozen::of(&attention.v_proj, dtype)?,
            o: Frozen::of(&attention.o_proj, dtype)?,
            q_norm: optional(&attention.q_norm)?,
            k_norm: optional(&attention.k_norm)?,
            activation: mlp.activation,
            gate: Frozen::of(&mlp.gate, dtype)?,
            up: Frozen::of(&mlp.up, dtype)?,
            down: Frozen::of(&mlp.down, dtype)?,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            scale: f64::from(config.attention_scale),
            eps: config.rms_norm_eps,
        })
    }

    /// The residual stream `[tokens, hidden]` behind this layer.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        mask: &Tensor,
        past: Option<&LayerKv>,
    ) -> Result<Tensor> {
        let attended = self.attended(&self.norm(x, &self.attention_norm)?, rotation, mask, past)?;
        let x = (x + self.behind(attended, self.attended_norm.as_ref())?)?;
        let read = self.norm(&x, &self.mlp_norm)?;
        let gated = (activated(self.activation, &self.gate.forward(&read)?)? * self.up.forward(&read)?)?;
        let out = self.behind(self.down.forward(&gated)?, self.output_norm.as_ref())?;
        Ok((x + out)?)
    }

    fn norm(&self, x: &Tensor, gain: &Tensor) -> Result<Tensor> {
        normed(x, gain, self.eps)
    }

    fn behind(&self, x: Tensor, gain: Option<&Tensor>) -> Result<Tensor> {
        match gain {
            Some(gain) => self.norm(&x, gain),
            None => Ok(x),
        }
    }

    /// `[tokens, heads · d]` as `[heads, tokens, d]`, normed.
    fn split(&self, x: &Tensor, heads: usize, gain: Option<&Tensor>) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let x = x.reshape((tokens, heads, width / heads))?.transpose(0, 1)?.contiguous()?;
        self.behind(x, gain)
    }

    /// Attention over `past` and over the rows themselves, `[tokens, hidden]`.
    fn attended(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        mask: &Tensor,
        past: Option<&LayerKv>,
    ) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let q = turned(&self.split(&self.q.forward(x)?, self.heads, self.q_norm.as_ref())?, rotation)?;
        let k = turned(&self.split(&self.k.forward(x)?, self.kv_heads, self.k_norm.as_ref())?, rotation)?;
        let v = self.split(&self.v.forward(x)?, self.kv_heads, None)?;
        let (d, rows) = (q.dim(2)?, self.heads / self.kv_heads * tokens);
        // The heads of a group are rows behind their KV head, as in the decoder.
        let q = (q.reshape((self.kv_heads, rows, d))? * self.scale)?;
        let own = q.matmul(&k.t()?)?.reshape((self.heads, tokens, tokens))?.broadcast_add(mask)?;
        let own = own.reshape((self.kv_heads, rows, tokens))?;
        let out = match past {
            None => softmax(&own)?.matmul(&v)?,
            Some(past) => {
                let dtype = q.dtype();
                let (keys, values) = (past.keys.to_dtype(dtype)?, past.values.to_dtype(dtype)?);
                let mut before = q.matmul(&keys.detach().t()?)?;
                if let Some(bias) = &past.bias {
                    before = before.broadcast_add(&bias.to_dtype(dtype)?.unsqueeze(1)?)?;
                }
                let slots = before.dim(2)?;
                let p = softmax(&Tensor::cat(&[before, own], 2)?)?;
                let (to_past, to_own) = (p.narrow(2, 0, slots)?, p.narrow(2, slots, tokens)?);
                (to_past.contiguous()?.matmul(&values)? + to_own.contiguous()?.matmul(&v)?)?
            }
        };
        let out = out.reshape((self.heads, tokens, d))?.transpose(0, 1)?.reshape((tokens, self.heads * d))?;
        self.o.forward(&out)
    }
}
