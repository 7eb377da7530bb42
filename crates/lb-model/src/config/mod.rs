//! The shape of a decoder, from `config.json` in the layouts of transformers 4 and 5.

mod experts;
mod family;
mod fields;
mod foreign;
mod packed;
mod policy;
mod rope;
mod window;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use experts::Experts;
pub use family::Family;
pub(crate) use family::{Activation, AttentionScale, Bias, FAMILIES, FamilySpec, Window};
pub(crate) use fields::unsupported;
use fields::{Fields, typed};
pub(crate) use foreign::foreign_has;
pub use rope::RopeScaling;
pub use window::LocalAttention;

use crate::{Error, Result, Warning};

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
    /// What q · k is multiplied with in every attention logit: `1/√head_dim`, but for Gemma 3.
    pub attention_scale: f32,
    /// Which layers attend to a window of positions, if any.
    pub local: Option<LocalAttention>,
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

    /// Positions that a token sees in `layer`, its own included; `None` where it sees all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let local = self.local.as_ref()?;
        local.layers.get(layer).copied().unwrap_or(false).then_some(local.window)
    }

    /// What of a list with an entry for each layer belongs to the layers that attend to everything: those that a
    /// compaction is about. The others keep what their windows reach.
    pub fn of_global_layers<T>(&self, by_layer: Vec<T>) -> Vec<T> {
        let numbered = by_layer.into_iter().enumerate();
        numbered.filter(|(layer, _)| self.window(*layer).is_none()).map(|(_, entry)| entry).collect()
    }

    /// Positions the model can read: `max_position_embeddings`, or as many as YaRN stretches it to. A forward pass
    /// beyond is an error.
    pub fn position_limit(&self) -> usize {
        self.rope_scaling.positions().unwrap_or(0).max(self.max_position_embeddings)
    }

    /// Reads `config.json`, and what in it has no effect although it may be meant to. `path` is only named.
    ///
    /// Missing fields have the values that transformers gives them for the family. Fields that change the computation
    /// in a way that is not implemented are refused while they do; what says nothing is passed over.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::MissingField`] for a size without which there is no model, [`Error::UnsupportedConfig`]
    /// naming the field, [`Error::Config`] for sizes that do not fit each other.
    pub fn parse(json: &[u8], path: &Path) -> Result<(Self, Vec<Warning>)> {
        let ConfigJson { mut config, warnings, usual_end } = ConfigJson::parse(json, path)?;
        if config.eos_token_ids.is_empty() {
            config.eos_token_ids.extend(usual_end);
        }
        Ok((config, warnings))
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
        let scale = self.attention_scale;
        check(scale > 0.0 && scale.is_finite(), "attention_scale", scale, "above 0 and finite")?;
        self.local.as_ref().map_or(Ok(()), |local| local.validate(self.num_hidden_layers))?;
        self.experts.as_ref().map_or(Ok(()), Experts::validate)?;
        for &id in &self.eos_token_ids {
            check((id as usize) < self.vocab_size, "eos_token_id", id, "below vocab_size")?;
        }
        Ok(self)
    }
}

/// 1/√d.
pub(crate) fn usual_scale(head_dim: usize) -> f32 {
    scale_of(head_dim as f64)
}

/// One over the root of a number.
pub(crate) fn scale_of(number: f64) -> f32 {
    1.0 / (number as f32).sqrt()
}

/// What config.json says.
pub(crate) struct ConfigJson {
    pub(crate) config: ModelConfig,
    pub(crate) warnings: Vec<Warning>,
    /// The token that ends a generation where no file says which does.
    pub(crate) usual_end: Option<u32>,
}

impl ConfigJson {
    pub(crate) fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let map: Map<String, Value> = read_json(json, path)?;
        let mut fields = Fields::new(map, path);
        let silent = !fields.map.contains_key("eos_token_id");
        let config = build(&mut fields)?;
        let usual_end = config.family.spec().defaults.eos.filter(|_| silent);
        Ok(Self { config, warnings: fields.warnings, usual_end })
    }
}

fn build(fields: &mut Fields<'_>) -> Result<ModelConfig> {
    let spec = foreign::family(fields)?;
    packed::require_plain_weights(fields)?;
    require_activation(fields, spec)?;
    let max_position_embeddings: usize =
        fields.take_or("max_position_embeddings", spec.defaults.positions)?;
    let num_hidden_layers: usize = fields.take("num_hidden_layers")?;
    let (rope_theta, rope_scaling, local) =
        positions(fields, spec, max_position_embeddings, num_hidden_layers)?;
    let hidden_size: usize = fields.take("hidden_size")?;
    let num_attention_heads: usize = fields.take("num_attention_heads")?;
    let head_dim = spec.defaults.head_dim.unwrap_or(hidden_size / num_attention_heads.max(1));
    let head_dim = fields.take_or("head_dim", head_dim)?;
    // Missing is the family's usual number, null is one for each query head.
    let usual = if fields.map.contains_key("num_key_value_heads") { None } else { spec.defaults.kv_heads };
    let vocab_size = fields.take("vocab_size")?;
    let config = ModelConfig {
        family: spec.family,
        vocab_size,
        hidden_size,
        intermediate_size: fields.take("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: fields.take_or("num_key_value_heads", usual.unwrap_or(num_attention_heads))?,
        head_dim,
        rms_norm_eps: fields.take_or("rms_norm_eps", family::RMS_NORM_EPS)?,
        rope_theta,
        rope_scaling,
        max_position_embeddings,
        tie_word_embeddings: fields.take_or("tie_word_embeddings", spec.defaults.tied)?,
        qk_norm: spec.qk_norm,
        attention_scale: attention_scale(fields, spec, head_dim)?,
        local,
        biases: biases(fields, spec)?,
        experts: spec.experts.then(|| Experts::parse(fields)).transpose()?,
        eos_token_ids: ends(fields, vocab_size)?,
    };
    policy::judge(fields, spec)?;
    config.validate()
}

fn require_activation(fields: &mut Fields<'_>, spec: &FamilySpec) -> Result<()> {
    let (field, names) = (spec.activation_field, spec.activation.names());
    match fields.optional::<String>(field)? {
        Some(name) if !names.contains(&name.as_str()) => {
            Err(unsupported(field, &Value::from(name), &format!("only {}", names[0])))
        }
        _ => Ok(()),
    }
}

/// How positions turn keys and queries, and which of them layers see.
fn positions(
    fields: &mut Fields<'_>,
    spec: &FamilySpec,
    limit: usize,
    layers: usize,
) -> Result<(f64, RopeScaling, Option<LocalAttention>)> {
    let theta = spec.defaults.rope_theta;
    let Window::Layers { every } = spec.window else {
        window::require_full_attention(fields, spec, limit, layers)?;
        let (theta, scaling) = rope::parse(fields, limit, theta)?;
        return Ok((theta, scaling, None));
    };
    let (window, local) = window::local_layers(fields, spec, every, layers)?;
    let (theta, scaling, local_theta) = rope::parse_by_kind(fields, limit, theta)?;
    Ok((theta, scaling, LocalAttention::new(window, local_theta, local)))
}

fn attention_scale(fields: &mut Fields<'_>, spec: &FamilySpec, head_dim: usize) -> Result<f32> {
    let AttentionScale::Root { field, usual, .. } = spec.attention_scale else {
        return Ok(usual_scale(head_dim));
    };
    let number: f64 = fields.take_or(field, usual)?;
    check(number > 0.0 && number.is_finite(), field, number, "above 0 and finite")?;
    Ok(scale_of(number))
}

fn biases(fields: &mut Fields<'_>, spec: &FamilySpec) -> Result<Biases> {
    let attention: bool = fields.take_or("attention_bias", false)?;
    let mlp: bool = fields.take_or("mlp_bias", false)?;
    let bias = |of: Bias| match of {
        Bias::Always => true,
        Bias::Field("attention_bias") => attention,
        Bias::Field("mlp_bias") => mlp,
        Bias::Never | Bias::Field(_) => false,
    };
    let biases =
        Biases { qkv: bias(spec.qkv_bias), output: bias(spec.output_bias), mlp: bias(spec.mlp_bias) };
    for (field, given, known) in
        [("attention_bias", attention, biases.qkv || biases.output), ("mlp_bias", mlp, biases.mlp)]
    {
        if given && !known {
            return Err(unsupported(field, &Value::from(true), "this family has no such bias"));
        }
    }
    Ok(biases)
}

/// Tokens that end a generation. An id that no token can have ends nothing.
fn ends(fields: &mut Fields<'_>, vocab_size: usize) -> Result<Vec<u32>> {
    let value = fields.said("eos_token_id");
    let ids = eos_ids(value.as_ref(), fields.path)?;
    let (known, beyond): (Vec<u32>, Vec<u32>) = ids.into_iter().partition(|id| (*id as usize) < vocab_size);
    if let (Some(value), false) = (&value, beyond.is_empty()) {
        fields.no_effect(
            "eos_token_id",
            value,
            &format!("of {vocab_size} tokens none has the id {}", beyond[0]),
        );
    }
    Ok(known)
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

/// Parses JSON and names the file in the error. A byte order mark, which some editors write, is passed over.
pub(crate) fn read_json<T: DeserializeOwned>(json: &[u8], path: &Path) -> Result<T> {
    let json = json.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(json);
    serde_json::from_slice(json).map_err(|source| Error::Json { path: path.to_path_buf(), source })
}

/// The ids of `eos_token_id`: a number, a list, or nothing. Negative numbers stand for nothing.
pub(crate) fn eos_ids(value: Option<&Value>, path: &Path) -> Result<Vec<u32>> {
    let ids: Vec<i64> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(value @ Value::Array(_)) => typed("eos_token_id", value, path)?,
        Some(value) => vec![typed("eos_token_id", value, path)?],
    };
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}
