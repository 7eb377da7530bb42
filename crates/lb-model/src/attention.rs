//! Grouped-query attention: projections, norms and rotation of all rows, then each sequence over its own cache.
//!
//! The query heads of a group are stacked as rows behind their KV head (`[kv_heads, group_size * tokens, d]`), so
//! keys and values are never repeated.

use candle_core::Tensor;
use lb_am::Observed;

use crate::attend::{Asker, Watching, attend};
use crate::buffers;
use crate::cache::{LayerCache, Views};
use crate::heads;
use crate::matrix::Linear;
use crate::norm::RmsNorm;
use crate::pass::{Pass, Span};
use crate::plain::is_plain;
use crate::rope::Rotations;
use crate::weights::Weights;
use crate::{ModelConfig, Result};

/// What one sequence asked in a layer.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The queries as the scores saw them, `[kv_heads, group_size * tokens, head_dim]`, rows ordered (head, token).
    pub(crate) queries: Tensor,
    /// What they saw of the cache before the tokens themselves, where [`Pass::watch`] asks for it and it can be noted.
    pub(crate) observed: Option<Observed>,
}

/// What may happen to a layer's cache between its queries and its attention.
pub(crate) type Before<'a> = &'a mut dyn FnMut(&Tensor, &mut LayerCache) -> Result<()>;

#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) o_proj: Linear,
    pub(crate) q_norm: Option<RmsNorm>,
    pub(crate) k_norm: Option<RmsNorm>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    /// Positions that a token sees, its own included; all of them without.
    window: Option<usize>,
}

impl Attention {
    pub(crate) fn load(
        weights: &mut Weights,
        prefix: &str,
        layer: usize,
        config: &ModelConfig,
    ) -> Result<Self> {
        let (hidden, d) = (config.hidden_size, config.head_dim);
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let (qkv, out) = (config.biases.qkv, config.biases.output);
        let norm = |weights: &mut Weights, name: &str| {
            let name = format!("{prefix}.{name}");
            config.qk_norm.then(|| RmsNorm::load(weights, &name, d, config)).transpose()
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
            scale: config.attention_scale,
            window: config.window(layer),
        })
    }

    /// `x`: `[rows, hidden]`, and `caches` by sequence. Appends to each cache, then attends over all of it. Returns the
    /// output and by sequence what it asked.
    ///
    /// `before` hears the queries and may still change what is cached, before the tokens' own keys are.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        pass: &Pass,
        caches: &mut [&mut LayerCache],
        before: Before<'_>,
    ) -> Result<(Tensor, Vec<Heard>)> {
        let (q, k) = (self.q_proj.forward(x)?, self.k_proj.forward(x)?);
        let v = self.v_proj.forward(x)?;
        let q = self.by_sequence(q, self.heads, self.q_norm.as_ref(), pass)?;
        let k = self.by_sequence(k, self.kv_heads, self.k_norm.as_ref(), pass)?;
        let mut askers = Vec::with_capacity(caches.len());
        for ((span, cache), (q, k)) in pass.spans.iter().zip(caches).zip(q.into_iter().zip(k)) {
            let grouped = (self.kv_heads, self.heads / self.kv_heads * span.tokens, self.head_dim);
            let q = q.reshape(grouped)?;
            before(&q, cache)?;
            cache.append(&k, &heads::split(&span.of(&v, 0)?, self.kv_heads)?)?;
            buffers::give(k)?;
            let Views { chunks, hidden } = cache.views(span.tokens, self.window)?;
            // Where heads have different counts there is no score for every slot of every head, and where there is a
            // window a compaction asks for none.
            let even = chunks.iter().all(|chunk| chunk.counts.is_none());
            let watch = pass.watch.filter(|_| chunks.len() > 1 && even && self.window.is_none());
            let watch = watch.map(|score| Watching { chunks: chunks.len() - 1, score });
            let (scale, mask) = (self.scale, span.mask.clone());
            askers.push(Asker { q, scale, chunks, mask, hidden, watch });
        }
        buffers::give(v)?;
        let (outs, heard): (Vec<Tensor>, Vec<Heard>) = attend(&askers)?
            .into_iter()
            .zip(askers)
            .map(|(attended, asker)| (attended.out, Heard { queries: asker.q, observed: attended.observed }))
            .unzip();
        let out = self.rows_of(outs, pass)?;
        let projected = self.o_proj.forward(&out)?;
        buffers::give(out)?;
        Ok((projected, heard))
    }

    /// From what each sequence attended to, like its queries, to `[rows, heads * head_dim]`.
    fn rows_of(&self, attended: Vec<Tensor>, pass: &Pass) -> Result<Tensor> {
        let of_heads = |(x, span): (Tensor, &Span)| x.reshape((self.heads, span.tokens, self.head_dim));
        let attended: Vec<Tensor> =
            attended.into_iter().zip(&pass.spans).map(of_heads).collect::<candle_core::Result<_>>()?;
        let rows = heads::joined(&attended)?;
        attended.into_iter().try_for_each(buffers::give)?;
        Ok(rows)
    }

    /// `x`: `[1, heads, tokens, d]`, normed and rotated like this layer's queries. Result as the queries of
    /// [`forward`](Self::forward).
    pub(crate) fn as_queries(&self, x: &Tensor, rotations: &Rotations) -> Result<Tensor> {
        let q = heads::turned_plainly(x, self.q_norm.as_ref(), rotations.of(self.window))?;
        Ok(q.reshape((self.kv_heads, self.heads / self.kv_heads * x.dim(2)?, self.head_dim))?)
    }

    /// A projection `[rows, heads * d]`, which nobody else reads any more, as normed and rotated heads of each sequence,
    /// `[1, heads, tokens, d]`.
    fn by_sequence(
        &self,
        x: Tensor,
        heads: usize,
        norm: Option<&RmsNorm>,
        pass: &Pass,
    ) -> Result<Vec<Tensor>> {
        if !is_plain(&x) {
            // Elsewhere a few large steps are better than many small ones.
            let all = heads::turned(&x, heads, norm, pass.rotations.of(self.window))?;
            return pass.spans.iter().map(|span| span.of(&all, 2)).collect();
        }
        let own = |span: &Span| heads::turned(&span.of(&x, 0)?, heads, norm, span.rotations.of(self.window));
        let own = pass.spans.iter().map(own).collect();
        buffers::give(x)?;
        own
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::Attention;
    use crate::ModelConfig;
    use crate::attend::{Asker, attend};
    use crate::cache::{LayerCache, SlotKind};
    use crate::checkpoint::Origin;
    use crate::pass::Pass;
    use crate::rope::Ropes;
    use crate::weights::Weights;

    use std::path::Path;

    /// Bit for bit: the output is made from exactly the queries that are handed out, with a trajectory cached.
    #[test]
    fn the_queries_handed_out_are_those_used() -> crate::Result<()> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tiny_tied");
        let source = Origin::Dir(dir);
        let json = source.read("config.json")?.unwrap();
        let (config, _) = ModelConfig::parse(&json, &source.path("config.json"))?;
        let mut weights = Weights::open(&source, None, &Device::Cpu)?;
        let attention = Attention::load(&mut weights, "model.layers.1.self_attn", 1, &config)?;
        let ropes = Ropes::new(&config, &Device::Cpu);
        let random = |rows: usize| Tensor::randn(0f32, 1.0, (rows, 48), &Device::Cpu);
        let mut cache =
            LayerCache::new(SlotKind { heads: 2, dim: 16, dtype: DType::F32, device: Device::Cpu });
        let first = Pass::new(&[(0, 70)], &ropes, &Device::Cpu)?;
        attention.forward(&random(70)?, &first, &mut [&mut cache], &mut |_, _| Ok(()))?;
        let pass = Pass::new(&[(70, 5)], &ropes, &Device::Cpu)?;
        let (output, heard) = attention.forward(&random(5)?, &pass, &mut [&mut cache], &mut |_, _| Ok(()))?;
        let again = |q: &Tensor| -> crate::Result<Vec<Vec<f32>>> {
            let asker = Asker {
                q: q.clone(),
                scale: attention.scale,
                chunks: cache.views(5, None)?.chunks,
                mask: pass.spans[0].mask.clone(),
                hidden: None,
                watch: None,
            };
            let heads = attend(&[asker])?.remove(0).out.reshape((4, 5, 16))?.transpose(0, 1)?;
            Ok(attention.o_proj.forward(&heads.reshape((5, 64))?)?.to_vec2()?)
        };
        assert_eq!(again(&heard[0].queries)?, output.to_vec2::<f32>()?);
        assert_ne!(again(&(&heard[0].queries * 1.001)?)?, output.to_vec2::<f32>()?);
        Ok(())
    }
}
