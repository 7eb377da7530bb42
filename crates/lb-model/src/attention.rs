//! Grouped-query attention over the chunks of a cache, with key biases.
//!
//! The query heads of a group are stacked as rows behind their KV head (`[kv_heads, group_size * tokens, d]`), so
//! keys and values are read where they lie and never repeated. Chunks of the cache are never joined either: the
//! small score matrices are. Where heads have different counts of slots, each head attends to its own rows.

use candle_core::{D, DType, Device, Tensor};

use crate::cache::{Chunk, LayerCache};
use crate::matrix::Linear;
use crate::norm::RmsNorm;
use crate::rope::Rotation;
use crate::weights::Weights;
use crate::{ModelConfig, Result};

/// What may happen to a layer's cache between its queries and its attention.
pub(crate) type Before<'a> = &'a mut dyn FnMut(&Tensor, &mut LayerCache) -> Result<()>;

#[derive(Debug)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Attention {
    pub(crate) fn load(weights: &mut Weights, prefix: &str, config: &ModelConfig) -> Result<Self> {
        let (hidden, d) = (config.hidden_size, config.head_dim);
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let (qkv, out) = (config.qkv_bias, config.output_bias);
        let norm = |weights: &mut Weights, name: &str| {
            let name = format!("{prefix}.{name}.weight");
            config.qk_norm.then(|| RmsNorm::load(weights, &name, d, config.rms_norm_eps)).transpose()
        };
        Ok(Self {
            q_proj: weights.linear(&format!("{prefix}.q_proj"), hidden, heads * d, qkv)?,
            k_proj: weights.linear(&format!("{prefix}.k_proj"), hidden, kv_heads * d, qkv)?,
            v_proj: weights.linear(&format!("{prefix}.v_proj"), hidden, kv_heads * d, qkv)?,
            o_proj: weights.linear(&format!("{prefix}.o_proj"), heads * d, hidden, out)?,
            q_norm: norm(weights, "q_norm")?,
            k_norm: norm(weights, "k_norm")?,
            heads,
            kv_heads,
            head_dim: d,
        })
    }

    /// `x`: `[tokens, hidden]`; `mask`: [`causal_mask`]. Appends to `cache`, then attends over all of it. Returns the output and the
    /// queries as the scores saw them, `[kv_heads, group_size * tokens, head_dim]`, rows ordered (head, token).
    ///
    /// `before` hears the queries and may still change what is cached, before the tokens' own keys are.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        mask: Option<&Tensor>,
        cache: &mut LayerCache,
        before: Before<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let tokens = x.dim(0)?;
        let q = normed(self.split(&self.q_proj.forward(x)?, self.heads)?, self.q_norm.as_ref())?;
        let k = normed(self.split(&self.k_proj.forward(x)?, self.kv_heads)?, self.k_norm.as_ref())?;
        let v = self.split(&self.v_proj.forward(x)?, self.kv_heads)?;
        let (q, k) = (rotation.apply(&q)?, rotation.apply(&k)?);
        let q = q.reshape((self.kv_heads, self.heads / self.kv_heads * tokens, self.head_dim))?;
        before(&q, cache)?;
        cache.append(&k, &v)?;
        let out = attend(&q, &cache.views(tokens)?, mask)?;
        let out = out.reshape((self.heads, tokens, self.head_dim))?.transpose(0, 1)?;
        let out = out.reshape((tokens, self.heads * self.head_dim))?;
        Ok((self.o_proj.forward(&out.contiguous()?)?, q))
    }

    /// `x`: `[1, heads, tokens, d]`, normed and rotated like this layer's queries. Result as the queries of
    /// [`forward`](Self::forward).
    pub(crate) fn as_queries(&self, x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
        let q = rotation.apply(&normed(x.clone(), self.q_norm.as_ref())?)?;
        Ok(q.reshape((self.kv_heads, self.heads / self.kv_heads * x.dim(2)?, self.head_dim))?)
    }

    /// `[tokens, heads * d]` to `[1, heads, tokens, d]`, contiguous.
    fn split(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let x = x.reshape((tokens, heads, self.head_dim))?.transpose(0, 1)?;
        Ok(x.contiguous()?.unsqueeze(0)?)
    }
}

fn normed(x: Tensor, norm: Option<&RmsNorm>) -> Result<Tensor> {
    norm.map_or(Ok(x.clone()), |norm| norm.forward(&x))
}

/// `softmax(q Kᵀ/√d + bias + causal mask) V` over the concatenation of `chunks`, softmax in f32.
///
/// # Shapes
/// `q`: `[kv_heads, group_size * tokens, d]`. With a mask (`[tokens, tokens]`) the last chunk is the tokens
/// themselves; without, there is one token and it sees everything. Result: like `q`.
fn attend(q: &Tensor, chunks: &[Chunk], mask: Option<&Tensor>) -> Result<Tensor> {
    if chunks.iter().all(|chunk| chunk.counts.is_none()) {
        return attend_evenly(q, chunks, mask);
    }
    let heads = (0..q.dim(0)?)
        .map(|head| {
            let own = chunks.iter().map(|chunk| chunk.head(head)).collect::<Result<Vec<_>>>()?;
            let own: Vec<Chunk> = own.into_iter().filter(|chunk| chunk.slots() > 0).collect();
            attend_evenly(&q.narrow(0, head, 1)?, &own, mask)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&heads, 0)?)
}

/// [`attend`] where all heads have the same slots.
fn attend_evenly(q: &Tensor, chunks: &[Chunk], mask: Option<&Tensor>) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(2)? as f64).sqrt();
    let last = chunks.len() - 1;
    let mut scores = Vec::with_capacity(chunks.len());
    for (index, chunk) in chunks.iter().enumerate() {
        let s = chunk_scores(q, chunk, scale)?;
        scores.push(match mask {
            Some(mask) if index == last => masked(&s, mask)?,
            _ => s,
        });
    }
    let scores = if last == 0 { scores.swap_remove(0) } else { Tensor::cat(&scores, D::Minus1)? };
    let p = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(q.dtype())?;
    let mut out: Option<Tensor> = None;
    let mut from = 0;
    for chunk in chunks {
        let part = rows_for_matmul(p.narrow(D::Minus1, from, chunk.slots())?)?;
        let part = part.matmul(&chunk.values.to_dtype(q.dtype())?.squeeze(0)?)?;
        out = Some(match out {
            None => part,
            Some(sum) => (sum + part)?,
        });
        from += chunk.slots();
    }
    Ok(out.expect("attend is called with at least the tokens' own chunk"))
}

/// `q Kᵀ/√d + bias` for one chunk, `[kv_heads, rows, slots]`, f32.
fn chunk_scores(q: &Tensor, chunk: &Chunk, scale: f64) -> Result<Tensor> {
    let keys = chunk.keys.to_dtype(q.dtype())?.squeeze(0)?.t()?;
    // In f32 the small side is scaled; in a narrow dtype scaling q would round it once more.
    let s = if q.dtype() == DType::F32 {
        (q * scale)?.matmul(&keys)?
    } else {
        (q.matmul(&keys)?.to_dtype(DType::F32)? * scale)?
    };
    match &chunk.bias {
        None => Ok(s),
        Some(bias) => Ok(s.broadcast_add(&bias.unsqueeze(1)?)?),
    }
}

/// What hides later tokens from earlier ones, `[tokens, tokens]`, f32, added to scores; `None` for a single token.
pub(crate) fn causal_mask(tokens: usize, device: &Device) -> Result<Option<Tensor>> {
    if tokens == 1 {
        return Ok(None);
    }
    let mask: Vec<f32> = (0..tokens)
        .flat_map(|row| (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    Ok(Some(Tensor::from_vec(mask, (tokens, tokens), device)?))
}

/// `s`: `[kv_heads, group_size * tokens, tokens]`, rows (head, token).
fn masked(s: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (kv_heads, rows, tokens) = s.dims3()?;
    let s = s.reshape((kv_heads * rows / tokens, tokens, tokens))?.broadcast_add(mask)?;
    Ok(s.reshape((kv_heads, rows, tokens))?)
}

/// The CPU's matrix product takes strided rows, the GPU ones want them packed.
fn rows_for_matmul(x: Tensor) -> Result<Tensor> {
    if matches!(x.device(), Device::Cpu) { Ok(x) } else { Ok(x.contiguous()?) }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{Attention, attend, causal_mask};
    use crate::ModelConfig;
    use crate::cache::{Chunk, LayerCache, SlotKind};
    use crate::checkpoint::Source;
    use crate::rope::Rope;
    use crate::weights::Weights;

    use std::path::Path;

    /// Bit for bit: the output is made from exactly the queries that are handed out, with a trajectory cached.
    #[test]
    fn the_queries_handed_out_are_those_used() -> crate::Result<()> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_tied");
        let source = Source::Dir(dir);
        let json = source.read("config.json")?.unwrap();
        let config = ModelConfig::parse(&json, &source.path("config.json"))?;
        let mut weights = Weights::open(&source, None, &Device::Cpu)?;
        let attention = Attention::load(&mut weights, "model.layers.1.self_attn", &config)?;
        let rope = Rope::new(&config, &Device::Cpu);
        let mask = |tokens| causal_mask(tokens, &Device::Cpu);
        let random = |rows: usize| Tensor::randn(0f32, 1.0, (rows, 48), &Device::Cpu);
        let mut cache =
            LayerCache::new(SlotKind { heads: 2, dim: 16, dtype: DType::F32, device: Device::Cpu });
        attention
            .forward(&random(70)?, &rope.at(0, 70)?, mask(70)?.as_ref(), &mut cache, &mut |_, _| Ok(()))?;
        let (output, q) = attention.forward(
            &random(5)?,
            &rope.at(70, 5)?,
            mask(5)?.as_ref(),
            &mut cache,
            &mut |_, _| Ok(()),
        )?;
        let again = |q: &Tensor| -> crate::Result<Vec<Vec<f32>>> {
            let heads =
                attend(q, &cache.views(5)?, mask(5)?.as_ref())?.reshape((4, 5, 16))?.transpose(0, 1)?;
            Ok(attention.o_proj.forward(&heads.reshape((5, 64))?)?.to_vec2()?)
        };
        assert_eq!(again(&q)?, output.to_vec2::<f32>()?);
        assert_ne!(again(&(&q * 1.001)?)?, output.to_vec2::<f32>()?);
        Ok(())
    }

    /// Joined or in chunks, with and without biases, attention is the same.
    #[test]
    fn chunks_attend_like_their_concatenation() -> crate::Result<()> {
        let random = |dims: &[usize]| Tensor::randn(0f32, 1.0, dims, &Device::Cpu);
        let (q, keys, values) = (random(&[2, 6, 8])?, random(&[1, 2, 20, 8])?, random(&[1, 2, 20, 8])?);
        let bias = random(&[2, 20])?;
        let whole = Chunk { keys, values, bias: Some(bias), counts: None, positions: 20, exact: true };
        let parts = [whole.narrow(0, 1)?, whole.narrow(1, 12)?, whole.narrow(13, 4)?, whole.narrow(17, 3)?];
        let joined = attend(&q, std::slice::from_ref(&whole), None)?;
        let chunked = attend(&q, &parts, None)?;
        assert!((joined - chunked)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
        let zero = Tensor::zeros((2, 20), DType::F32, &Device::Cpu)?;
        let zero = Chunk { bias: Some(zero), ..whole.clone() };
        let none = Chunk { bias: None, ..whole };
        let difference = (attend(&q, &[zero], None)? - attend(&q, &[none], None)?)?;
        assert!(difference.abs()?.max_all()?.to_scalar::<f32>()? == 0.0);
        Ok(())
    }
}
