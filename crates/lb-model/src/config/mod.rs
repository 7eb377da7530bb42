//! The shape of a decoder, from `config.json` in the layouts of transformers 4 and 5.

mod experts;
mod family;
mod fields;
mod rope;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use experts::Experts;
pub use family::Family;
pub(crate) use family::{Bias, FAMILIES, FamilySpec, Window};
pub(crate) use fields::unsupported;
use fields::{Fields, typed};
pub use rope::RopeScaling;

use crate::{Error, Result};

/// Fields that say nothing about the computation of one forward pass.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "router_aux_loss_coef",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// Which projections have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The output of the attention.
    pub output: bool,
    /// The three of the MLP.
    pub mlp: bool,
}

/// The shape of a decoder, and what in it differs between the families.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Which family the checkpoint belongs to.
    pub family: Family,
    /// Rows of the embedding, at least the number of tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads, a multiple of `num_key_value_heads`.
    pub num_attention_heads: usize,
    /// Key/value heads: what a cache holds.
    pub num_key_value_heads: usize,
    /// Width of one head, even; not necessarily `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How these frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// What `config.json` says of the positions the model was made for; see [`position_limit`](Self::position_limit).
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether every query and key head goes through a norm.
    pub qk_norm: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Which layers are mixtures of experts, if any.
    pub experts: Option<Experts>,
    /// Tokens that end a generation; `generation_config.json` may add to them.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Query heads that share one KV head.
    pub fn group_size(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Positions the model can read: `max_position_embeddings`, or as many as YaRN stretches it to. A forward pass
    /// beyond is an error.
    pub fn position_limit(&self) -> usize {
        self.rope_scaling.positions().unwrap_or(0).max(self.max_position_embeddings)
    }

    /// Reads `config.json`. `path` is only named in errors.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::MissingField`], [`Error::UnsupportedConfig`] naming the field (also for a field
    /// this crate does not know), [`Error::Config`] for sizes that do not fit each other.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let map: Map<String, Value> = read_json(json, path)?;
        build(Fields { map, path })
    }

    pub(crate) fn validate(self) -> Result<Self> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (field, value) in sizes {
            check((1..=1 << 31).contains(&value), field, value, "at least 1, at most 2^31")?;
        }
        let heads = self.num_attention_heads;
        let divides = heads.is_multiple_of(self.num_key_value_heads);
        check(divides, "num_attention_heads", heads, "a multiple of the KV heads")?;
        check(self.head_dim.is_multiple_of(2), "head_dim", self.head_dim, "even, for rotary embeddings")?;
        check(self.rms_norm_eps > 0.0, "rms_norm_eps", self.rms_norm_eps, "above 0")?;
        let theta = self.rope_theta;
        check(theta > 0.0 && theta.is_finite(), "rope_theta", theta, "above 0")?;
        self.rope_scaling.validate()?;
        self.experts.as_ref().map_or(Ok(()), Experts::validate)?;
        for &id in &self.eos_token_ids {
            check((id as usize) < self.vocab_size, "eos_token_id", id, "below vocab_size")?;
        }
        Ok(self)
    }
}

fn build(mut fields: Fields<'_>) -> Result<ModelConfig> {
    let spec = family(&mut fields)?;
    fields.require("hidden_act", &[Value::from("silu")], "only silu")?;
    fields.require("quantization_config", &[Value::Null], "only unquantised safetensors, or GGUF files")?;
    fields.require("pretraining_tp", &[Value::from(1), Value::Null], "only 1")?;
    let max_position_embeddings: usize = fields.take("max_position_embeddings")?;
    require_full_attention(&mut fields, spec, max_position_embeddings)?;
    let (rope_theta, rope_scaling) = rope::parse(&mut fields, max_position_embeddings)?;
    let hidden_size: usize = fields.take("hidden_size")?;
    let num_attention_heads: usize = fields.take("num_attention_heads")?;
    let head_dim = spec.head_dim.unwrap_or(hidden_size / num_attention_heads.max(1));
    let attention_bias: bool = fields.take_or("attention_bias", false)?;
    let mlp_bias: bool = fields.take_or("mlp_bias", false)?;
    let bias = |of: Bias| match of {
        Bias::Always => true,
        Bias::Field("attention_bias") => attention_bias,
        Bias::Field("mlp_bias") => mlp_bias,
        Bias::Never | Bias::Field(_) => false,
    };
    for (field, given, known) in [
        ("attention_bias", attention_bias, [spec.qkv_bias, spec.output_bias].map(bias).contains(&true)),
        ("mlp_bias", mlp_bias, bias(spec.mlp_bias)),
    ] {
        if given && !known {
            return Err(unsupported(field, &Value::from(true), "this family has no such bias"));
        }
    }
    let eos = fields.map.remove("eos_token_id");
    let config = ModelConfig {
        family: spec.family,
        vocab_size: fields.take("vocab_size")?,
        hidden_size,
        intermediate_size: fields.take("intermediate_size")?,
        num_hidden_layers: fields.take("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: fields.take_or("num_key_value_heads", num_attention_heads)?,
        head_dim: fields.take_or("head_dim", head_dim)?,
        rms_norm_eps: fields.take("rms_norm_eps")?,
        rope_theta,
        rope_scaling,
        max_position_embeddings,
        tie_word_embeddings: fields.take_or("tie_word_embeddings", false)?,
        qk_norm: spec.qk_norm,
        biases: Biases { qkv: bias(spec.qkv_bias), output: bias(spec.output_bias), mlp: bias(spec.mlp_bias) },
        experts: spec.experts.then(|| Experts::parse(&mut fields)).transpose()?,
        eos_token_ids: eos_ids(eos.as_ref(), fields.path)?,
    };
    match fields.map.iter().find(|(field, _)| !HARMLESS.contains(&field.as_str())) {
        Some((field, value)) => Err(unsupported(field, value, "not a field of this family known here")),
        None => config.validate(),
    }
}

fn family(fields: &mut Fields<'_>) -> Result<&'static FamilySpec> {
    let name: Value = fields.take("model_type")?;
    let Some(spec) = FAMILIES.iter().find(|spec| name == spec.model_type) else {
        let known: Vec<&str> = FAMILIES.iter().map(|spec| spec.model_type).collect();
        return Err(unsupported("model_type", &name, &format!("only {}", known.join(", "))));
    };
    if let Some(value) = fields.map.remove("architectures").filter(|v| !v.is_null()) {
        let known = value.as_array().is_some_and(|all| all.iter().all(|a| a == spec.architecture));
        if !known {
            return Err(unsupported("architectures", &value, &format!("only {}", spec.architecture)));
        }
    }
    Ok(spec)
}

/// Refuses windows, in each family's own way of writing them.
fn require_full_attention(fields: &mut Fields<'_>, spec: &FamilySpec, positions: usize) -> Result<()> {
    let reason = "only full attention";
    match spec.window {
        Window::None => {}
        Window::Switch => {
            fields.require("use_sliding_window", &[Value::from(false), Value::Null], reason)?;
            fields.map.remove("sliding_window");
            fields.map.remove("max_window_layers");
        }
        Window::Width => {
            if let Some(value) = fields.map.remove("sliding_window").filter(|v| !v.is_null()) {
                let wide = value.as_u64().is_some_and(|width| width >= positions as u64);
                if !wide {
                    return Err(unsupported("sliding_window", &value, reason));
                }
            }
        }
    }
    if let Some(value) = fields.map.remove("layer_types").filter(|v| !v.is_null()) {
        let full = value.as_array().is_some_and(|all| all.iter().all(|t| t == "full_attention"));
        if !full {
            return Err(unsupported("layer_types", &value, reason));
        }
    }
    Ok(())
}

/// `Err(Config)` unless `ok`.
#[allow(clippy::needless_pass_by_value, reason = "call sites read better with the bare value")]
pub(crate) fn check(
    ok: bool,
    field: &'static str,
    value: impl std::fmt::Display,
    reason: &str,
) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(Error::Config { field, value: value.to_string(), reason: reason.to_string() })
    }
}

/// Parses JSON and names the file in the error.
pub(crate) fn read_json<T: DeserializeOwned>(json: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(json).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

/// The ids of `eos_token_id`: a number, a list, or nothing.
pub(crate) fn eos_ids(value: Option<&Value>, path: &Path) -> Result<Vec<u32>> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value @ Value::Array(_)) => typed(value, path),
        Some(value) => Ok(vec![typed(value, path)?]),
    }
}
