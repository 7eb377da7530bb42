//! `config.json` of a Qwen3 checkpoint, in the layouts of transformers 4 and 5.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Fields that say nothing about the computation, or whose only supported meaning is checked elsewhere.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "layer_types",
    "max_window_layers",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "sliding_window",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// The shape of a Qwen3 decoder.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
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
    /// Positions the model was made for; a forward pass beyond is an error.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Tokens that end a generation; `generation_config.json` may add to them.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Query heads that share one KV head.
    pub fn group_size(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// Reads `config.json`. `path` is only named in errors.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::MissingField`], [`Error::UnsupportedConfig`] naming the field (also for a field
    /// this crate does not know), [`Error::Config`] for sizes that do not fit each other.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let map: Map<String, Value> = read_json(json, path)?;
        Fields { map, path }.build()
    }

    fn validate(self) -> Result<Self> {
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
            check(value > 0, field, value, "at least 1")?;
        }
        let heads = self.num_attention_heads;
        check(
            heads.is_multiple_of(self.num_key_value_heads),
            "num_attention_heads",
            heads,
            "a multiple of the KV heads",
        )?;
        check(self.head_dim.is_multiple_of(2), "head_dim", self.head_dim, "even, for rotary embeddings")?;
        check(self.rms_norm_eps > 0.0, "rms_norm_eps", self.rms_norm_eps, "above 0")?;
        check(
            self.rope_theta > 0.0 && self.rope_theta.is_finite(),
            "rope_theta",
            self.rope_theta,
            "above 0",
        )?;
        for &id in &self.eos_token_ids {
            check((id as usize) < self.vocab_size, "eos_token_id", id, "below vocab_size")?;
        }
        Ok(self)
    }
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

fn typed<T: DeserializeOwned>(value: &Value, path: &Path) -> Result<T> {
    serde_json::from_value(value.clone()).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

/// The fields not yet used; whatever is left at the end is unknown.
struct Fields<'a> {
    map: Map<String, Value>,
    path: &'a Path,
}

impl Fields<'_> {
    fn build(mut self) -> Result<ModelConfig> {
        self.require_supported()?;
        let rope_theta = self.rope_theta()?;
        let hidden_size: usize = self.take("hidden_size")?;
        let num_attention_heads: usize = self.take("num_attention_heads")?;
        let eos = self.map.remove("eos_token_id");
        let config = ModelConfig {
            vocab_size: self.take("vocab_size")?,
            hidden_size,
            intermediate_size: self.take("intermediate_size")?,
            num_hidden_layers: self.take("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: self.take_or("num_key_value_heads", num_attention_heads)?,
            head_dim: self.take_or("head_dim", hidden_size / num_attention_heads.max(1))?,
            rms_norm_eps: self.take("rms_norm_eps")?,
            rope_theta,
            max_position_embeddings: self.take("max_position_embeddings")?,
            tie_word_embeddings: self.take_or("tie_word_embeddings", false)?,
            eos_token_ids: eos_ids(eos.as_ref(), self.path)?,
        };
        for (field, value) in &self.map {
            if !HARMLESS.contains(&field.as_str()) {
                return Err(unsupported(field, value, "not a field of a Qwen3 configuration known here"));
            }
        }
        config.validate()
    }

    fn require_supported(&mut self) -> Result<()> {
        self.require("model_type", &[Value::from("qwen3")], "only qwen3")?;
        self.require("hidden_act", &[Value::from("silu")], "only silu")?;
        self.require("use_sliding_window", &[Value::from(false), Value::Null], "only full attention")?;
        self.require("rope_scaling", &[Value::Null], "only unscaled rotary embeddings")?;
        self.require("quantization_config", &[Value::Null], "only unquantised safetensors")?;
        if let Some(value) = self.map.get("attention_bias").filter(|v| v.as_bool() != Some(false)) {
            return Err(unsupported("attention_bias", value, "only projections without a bias"));
        }
        if let Some(value) = self.map.get("architectures") {
            let known = value.as_array().is_some_and(|all| all.iter().all(|a| a == "Qwen3ForCausalLM"));
            if !known {
                return Err(unsupported("architectures", value, "only Qwen3ForCausalLM"));
            }
        }
        if let Some(value) = self.map.get("layer_types").filter(|v| !v.is_null()) {
            let full = value.as_array().is_some_and(|all| all.iter().all(|t| t == "full_attention"));
            if !full {
                return Err(unsupported("layer_types", value, "only full_attention"));
            }
        }
        Ok(())
    }

    /// Removes `field` and checks it, where present, against the supported values.
    fn require(&mut self, field: &str, supported: &[Value], reason: &str) -> Result<()> {
        match self.map.remove(field) {
            Some(value) if !supported.contains(&value) => Err(unsupported(field, &value, reason)),
            None if field == "model_type" => self.missing(field),
            _ => Ok(()),
        }
    }

    /// Top-level `rope_theta` (transformers 4), or inside `rope_parameters` (transformers 5).
    fn rope_theta(&mut self) -> Result<f64> {
        let old: Option<f64> = self.optional("rope_theta")?;
        let Some(parameters) = self.map.remove("rope_parameters").filter(|v| !v.is_null()) else {
            return old.map_or_else(|| self.missing("rope_theta"), Ok);
        };
        let fields: Map<String, Value> = typed(&parameters, self.path)?;
        let mut theta = old;
        for (field, value) in &fields {
            match field.as_str() {
                "rope_theta" => theta = Some(typed(value, self.path)?),
                "rope_type" if value == "default" => {}
                other => {
                    let field = format!("rope_parameters.{other}");
                    return Err(unsupported(&field, value, "only unscaled rotary embeddings"));
                }
            }
        }
        theta.map_or_else(|| self.missing("rope_parameters.rope_theta"), Ok)
    }

    fn optional<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>> {
        self.map.remove(field).filter(|v| !v.is_null()).map(|v| typed(&v, self.path)).transpose()
    }

    fn take_or<T: DeserializeOwned>(&mut self, field: &str, default: T) -> Result<T> {
        Ok(self.optional(field)?.unwrap_or(default))
    }

    fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<T> {
        match self.optional(field)? {
            Some(value) => Ok(value),
            None => self.missing(field),
        }
    }

    fn missing<T>(&self, field: &str) -> Result<T> {
        Err(Error::MissingField { path: self.path.to_path_buf(), field: field.to_string() })
    }
}

pub(crate) fn unsupported(field: &str, value: &Value, reason: &str) -> Error {
    Error::UnsupportedConfig {
        field: field.to_string(),
        value: value.to_string(),
        reason: reason.to_string(),
    }
}
