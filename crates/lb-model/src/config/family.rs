//! What differs between the families, as data.

use serde::{Deserialize, Serialize};

use super::usual_scale;

/// Decoders that differ in a few places of one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Family {
    /// Qwen3, dense.
    Qwen3,
    /// Qwen3 with a mixture of experts.
    Qwen3Moe,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Llama 2 and 3.
    Llama,
    /// Mistral without a sliding window.
    Mistral,
    /// Gemma 3, the decoder of text.
    Gemma3,
}

/// Whether projections carry a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    Never,
    Always,
    /// Where `config.json` says so in the field of that name.
    Field(&'static str),
}

/// How a family says which positions its layers attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// All, whatever its fields say.
    None,
    /// Where `use_sliding_window` is true, a window in layers from `max_window_layers` on, or in all. Refused.
    Switch,
    /// A window in every layer, unless `sliding_window` is null or no shorter than the model's positions. Refused.
    Width,
    /// A window in the layers that `layer_types` names, else in all but every `every`th; these have a rotary base of their
    /// own.
    Layers { every: usize },
}

/// What is between the halves of a gated feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x / (1 + e⁻ˣ)`.
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    GeluTanh,
}

impl Activation {
    /// What it is called in `config.json`.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Silu => &["silu", "swish"],
            Self::GeluTanh => &["gelu_pytorch_tanh"],
        }
    }
}

/// What q · k is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum AttentionScale {
    /// `1/√head_dim`.
    HeadDim,
    /// One over the root of a number in `config.json`.
    Root {
        /// The field's name.
        field: &'static str,
        /// The number where it is missing.
        usual: f64,
        /// GGUF files do not say the number. llama.cpp takes the head's width, and hidden size over heads for models of so
        /// many layers.
        gguf_by_width: usize,
    },
}

impl AttentionScale {
    /// That of a model in a GGUF file.
    pub(crate) fn of_gguf(self, layers: usize, hidden_size: usize, heads: usize, head_dim: usize) -> f32 {
        usual_scale(match self {
            Self::Root { gguf_by_width, .. } if gguf_by_width == layers => hidden_size / heads.max(1),
            _ => head_dim,
        })
    }
}

/// The norms of a layer by their names in the Hugging Face layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerNorms {
    pub(crate) before_attention: &'static str,
    pub(crate) behind_attention: Option<&'static str>,
    pub(crate) before_mlp: &'static str,
    pub(crate) behind_mlp: Option<&'static str>,
}

/// What transformers takes where `config.json` lacks a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    /// `num_key_value_heads`; `None`: as many as query heads.
    pub(crate) kv_heads: Option<usize>,
    /// `max_position_embeddings`.
    pub(crate) positions: usize,
    /// `sliding_window`.
    pub(crate) window: Option<usize>,
    /// `eos_token_id`.
    pub(crate) eos: Option<u32>,
    /// `head_dim`; `None`: hidden size over heads.
    pub(crate) head_dim: Option<usize>,
    /// `rope_theta`.
    pub(crate) rope_theta: f64,
    /// `tie_word_embeddings`.
    pub(crate) tied: bool,
}

/// `rms_norm_eps` of every family, where it is missing.
pub(crate) const RMS_NORM_EPS: f64 = 1e-6;

/// `rope_theta` of most families, where it is missing; of layers with a window in all.
pub(crate) const ROPE_THETA: f64 = 10_000.0;

/// One row of the table.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own about a family")]
pub(crate) struct FamilySpec {
    pub(crate) family: Family,
    /// `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// The only entry of `architectures`.
    pub(crate) architecture: &'static str,
    /// RMSNorm on every query and key head.
    pub(crate) qk_norm: bool,
    pub(crate) layer_norms: LayerNorms,
    /// What all norms add to their weights; GGUF files hold the sums.
    pub(crate) norm_offset: f64,
    /// Whether embeddings are multiplied by the root of their width, in their own dtype.
    pub(crate) scaled_embeddings: bool,
    pub(crate) attention_scale: AttentionScale,
    pub(crate) activation: Activation,
    /// The field that names it.
    pub(crate) activation_field: &'static str,
    /// On the query, key and value projections.
    pub(crate) qkv_bias: Bias,
    /// On the output projection of the attention.
    pub(crate) output_bias: Bias,
    /// On the three projections of the MLP.
    pub(crate) mlp_bias: Bias,
    pub(crate) window: Window,
    pub(crate) defaults: Defaults,
    /// Whether layers may be mixtures of experts.
    pub(crate) experts: bool,
    /// `general.architecture` of GGUF files.
    pub(crate) gguf: &'static str,
    /// Whether GGUF files hold query and key rows in the order of adjacent rotary pairs.
    pub(crate) gguf_adjacent_pairs: bool,
}

const ATTENTION_BIAS: Bias = Bias::Field("attention_bias");

/// What the other rows begin with.
const LLAMA: FamilySpec = FamilySpec {
    family: Family::Llama,
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    qk_norm: false,
    layer_norms: LayerNorms {
        before_attention: "input_layernorm",
        behind_attention: None,
        before_mlp: "post_attention_layernorm",
        behind_mlp: None,
    },
    norm_offset: 0.0,
    scaled_embeddings: false,
    attention_scale: AttentionScale::HeadDim,
    activation: Activation::Silu,
    activation_field: "hidden_act",
    qkv_bias: ATTENTION_BIAS,
    output_bias: ATTENTION_BIAS,
    mlp_bias: Bias::Field("mlp_bias"),
    window: Window::None,
    defaults: Defaults {
        kv_heads: None,
        positions: 2048,
        window: None,
        eos: Some(2),
        head_dim: None,
        rope_theta: ROPE_THETA,
        tied: false,
    },
    experts: false,
    gguf: "llama",
    gguf_adjacent_pairs: true,
};

const QWEN3: FamilySpec = FamilySpec {
    family: Family::Qwen3,
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    qk_norm: true,
    mlp_bias: Bias::Never,
    window: Window::Switch,
    defaults: Defaults {
        kv_heads: Some(32),
        positions: 32_768,
        window: Some(4096),
        eos: None,
        head_dim: Some(128),
        ..LLAMA.defaults
    },
    gguf: "qwen3",
    gguf_adjacent_pairs: false,
    ..LLAMA
};

/// Every family this crate reads.
pub(crate) const FAMILIES: [FamilySpec; 6] = [
    QWEN3,
    FamilySpec {
        family: Family::Qwen3Moe,
        model_type: "qwen3_moe",
        architecture: "Qwen3MoeForCausalLM",
        defaults: Defaults { kv_heads: Some(4), head_dim: None, ..QWEN3.defaults },
        experts: true,
        gguf: "qwen3moe",
        ..QWEN3
    },
    FamilySpec {
        family: Family::Qwen2,
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        qk_norm: false,
        qkv_bias: Bias::Always,
        output_bias: Bias::Never,
        defaults: Defaults { head_dim: None, ..QWEN3.defaults },
        gguf: "qwen2",
        ..QWEN3
    },
    LLAMA,
    FamilySpec {
        family: Family::Mistral,
        model_type: "mistral",
        architecture: "MistralForCausalLM",
        qkv_bias: Bias::Never,
        output_bias: Bias::Never,
        mlp_bias: Bias::Never,
        window: Window::Width,
        defaults: Defaults { kv_heads: Some(8), positions: 131_072, window: Some(4096), ..LLAMA.defaults },
        // GGUF files of Mistral call themselves llama.
        ..LLAMA
    },
    FamilySpec {
        family: Family::Gemma3,
        model_type: "gemma3_text",
        architecture: "Gemma3ForCausalLM",
        qk_norm: true,
        layer_norms: LayerNorms {
            before_attention: "input_layernorm",
            behind_attention: Some("post_attention_layernorm"),
            before_mlp: "pre_feedforward_layernorm",
            behind_mlp: Some("post_feedforward_layernorm"),
        },
        norm_offset: 1.0,
        scaled_embeddings: true,
        attention_scale: AttentionScale::Root {
            field: "query_pre_attn_scalar",
            usual: 256.0,
            gguf_by_width: 62,
        },
        activation: Activation::GeluTanh,
        activation_field: "hidden_activation",
        mlp_bias: Bias::Never,
        window: Window::Layers { every: 6 },
        defaults: Defaults {
            kv_heads: Some(4),
            positions: 131_072,
            window: Some(4096),
            eos: Some(1),
            head_dim: Some(256),
            rope_theta: 1e6,
            tied: true,
        },
        gguf: "gemma3",
        gguf_adjacent_pairs: false,
        ..LLAMA
    },
];

impl Family {
    /// The `model_type` of its `config.json`.
    pub fn model_type(self) -> &'static str {
        self.spec().model_type
    }

    pub(crate) fn spec(self) -> &'static FamilySpec {
        FAMILIES.iter().find(|spec| spec.family == self).unwrap_or(&FAMILIES[0])
    }
}
