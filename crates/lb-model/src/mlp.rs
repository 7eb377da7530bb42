//! The feed-forward half of a layer: one gated block, or a mixture of them.

use candle_core::{D, DType, Tensor};
use lb_kernels::{gelu_tanh_mul, silu_mul};

use crate::buffers;
use crate::config::{Activation, Experts};
use crate::matrix::Linear;
use crate::plain::{by_rows, is_plain, numbers_of, read, tensor};
use crate::weights::Weights;
use crate::{ModelConfig, Result};

#[derive(Debug)]
pub(crate) enum FeedForward {
    Dense(Mlp),
    Mixture(Mixture),
}

impl FeedForward {
    pub(crate) fn load(
        weights: &mut Weights,
        prefix: &str,
        layer: usize,
        config: &ModelConfig,
    ) -> Result<Self> {
        match config.experts.as_ref().filter(|experts| experts.at(layer)) {
            Some(experts) => Ok(Self::Mixture(Mixture::load(weights, prefix, config, experts)?)),
            None => Ok(Self::Dense(Mlp::load(weights, prefix, config, config.intermediate_size)?)),
        }
    }

    /// `x`: `[tokens, hidden]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(mlp) => mlp.forward(x),
            Self::Mixture(mixture) => mixture.forward(x),
        }
    }
}

/// `down(activation(gate(x)) * up(x))`.
#[derive(Debug)]
pub(crate) struct Mlp {
    pub(crate) activation: Activation,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl Mlp {
    fn load(weights: &mut Weights, prefix: &str, config: &ModelConfig, inner: usize) -> Result<Self> {
        let (hidden, bias) = (config.hidden_size, config.biases.mlp);
        Ok(Self {
            activation: config.family.spec().activation,
            gate: weights.linear(&format!("{prefix}.gate_proj"), hidden, inner, bias)?,
            up: weights.linear(&format!("{prefix}.up_proj"), hidden, inner, bias)?,
            down: weights.linear(&format!("{prefix}.down_proj"), inner, hidden, bias)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gated = gated(self.activation, self.gate.forward(x)?, self.up.forward(x)?)?;
        let out = self.down.forward(&gated)?;
        buffers::give(gated)?;
        Ok(out)
    }
}

/// `activation(gate) * up`; nobody else reads either any more.
fn gated(activation: Activation, gate: Tensor, up: Tensor) -> Result<Tensor> {
    if !is_plain(&gate) || !is_plain(&up) || gate.dims() != up.dims() || !up.is_contiguous() {
        return Ok((activated(activation, &gate)? * up)?);
    }
    let gate_by: fn(&mut [f32], &[f32]) = match activation {
        Activation::Silu => silu_mul,
        Activation::GeluTanh => gelu_tanh_mul,
    };
    let (shape, mut numbers) = (gate.shape().clone(), numbers_of(gate)?);
    {
        let up = read(&up)?;
        by_rows(&mut numbers, 1, |first, gate| gate_by(gate, &up[first..][..gate.len()]));
    }
    buffers::give(up)?;
    tensor(numbers, shape)
}

/// By plain operations.
pub(crate) fn activated(activation: Activation, x: &Tensor) -> Result<Tensor> {
    Ok(match activation {
        Activation::Silu => x.silu()?,
        Activation::GeluTanh => x.gelu()?,
    })
}

/// Each token goes to the few experts that a router likes best (Qwen3-MoE).
#[derive(Debug)]
pub(crate) struct Mixture {
    router: Linear,
    experts: Vec<Mlp>,
    per_token: usize,
    normalised: bool,
}

impl Mixture {
    fn load(weights: &mut Weights, prefix: &str, config: &ModelConfig, of: &Experts) -> Result<Self> {
        let expert = |weights: &mut Weights, index: usize| {
            Mlp::load(weights, &format!("{prefix}.experts.{index}"), config, of.intermediate_size)
        };
        Ok(Self {
            router: weights.linear(&format!("{prefix}.gate"), config.hidden_size, of.count, false)?,
            experts: (0..of.count).map(|index| expert(weights, index)).collect::<Result<_>>()?,
            per_token: of.per_token,
            normalised: of.normalised,
        })
    }

    /// Each expert runs once, over all the tokens that chose it.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let scores = self.router.forward(x)?.to_dtype(DType::F32)?;
        let scores = candle_nn::ops::softmax(&scores, D::Minus1)?.to_vec2::<f32>()?;
        let mut visits: Vec<(Vec<u32>, Vec<f32>)> = vec![Default::default(); self.experts.len()];
        for (token, row) in (0u32..).zip(&scores) {
            for (expert, weight) in self.choice(row) {
                visits[expert].0.push(token);
                visits[expert].1.push(weight);
            }
        }
        let mut out = x.zeros_like()?;
        for (expert, (tokens, weights)) in self.experts.iter().zip(visits) {
            if tokens.is_empty() {
                continue;
            }
            let count = tokens.len();
            let tokens = Tensor::from_vec(tokens, count, x.device())?;
            let weights = Tensor::from_vec(weights, (count, 1), x.device())?.to_dtype(x.dtype())?;
            let part = expert.forward(&x.index_select(&tokens, 0)?)?.broadcast_mul(&weights)?;
            out = out.index_add(&tokens, &part, 0)?;
        }
        Ok(out)
    }

    /// The best experts of one token and their weights; ties go to the earlier expert.
    fn choice(&self, scores: &[f32]) -> Vec<(usize, f32)> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        order.truncate(self.per_token);
        let sum: f32 = if self.normalised { order.iter().map(|&e| scores[e]).sum() } else { 1.0 };
        order.into_iter().map(|expert| (expert, scores[expert] / sum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{activated, gated};
    use crate::config::Activation;

    /// The exponential's own error, relative to the largest number.
    const BOUND: f32 = 1e-6;

    /// Few numbers and many, as by plain operations.
    #[test]
    fn a_gate_is_that_of_plain_operations() -> crate::Result<()> {
        for dims in [(1, 5), (3, 700), (40, 3072)] {
            for activation in [Activation::Silu, Activation::GeluTanh] {
                let random = || Tensor::randn(0f32, 4.0, dims, &Device::Cpu);
                let (gate, up) = (random()?, random()?);
                let want = (activated(activation, &gate)? * &up)?;
                let got = gated(activation, gate, up)?;
                let error = (got - &want)?.abs()?.max_all()?.to_scalar::<f32>()?;
                let largest = want.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(error <= BOUND * largest, "{activation:?}, {dims:?}: {error:e}");
            }
        }
        Ok(())
    }
}
