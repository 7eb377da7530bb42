//! What differs between the families, as data.

use serde::{Deserialize, Serialize};

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
}

/// Whether projections carry a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    Never,
    Always,
    /// Where `config.json` says so in the field of that name.
    Field(&'static str),
}

/// How a family says that it attends to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// It attends to everything, whatever its fields say.
    None,
    /// Where `use_sliding_window` is true, layers from `max_window_layers` on, or all.
    Switch,
    /// Every layer, unless `sliding_window` is null or no shorter than the model's positions.
    Width,
}

/// What transformers takes where `config.json` lacks a field.
#[derive(Debug)]
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
}

/// `rms_norm_eps` of every family, where it is missing.
pub(crate) const RMS_NORM_EPS: f64 = 1e-6;

/// `rope_theta` of every family, where it is missing.
pub(crate) const ROPE_THETA: f64 = 10_000.0;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct FamilySpec {
    pub(crate) family: Family,
    /// `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// The only entry of `architectures`.
    pub(crate) architecture: &'static str,
    /// RMSNorm on every query and key head.
    pub(crate) qk_norm: bool,
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

/// Every family this crate reads.
pub(crate) const FAMILIES: [FamilySpec; 5] = [
    FamilySpec {
        family: Family::Qwen3,
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        qk_norm: true,
        qkv_bias: ATTENTION_BIAS,
        output_bias: ATTENTION_BIAS,
        mlp_bias: Bias::Never,
        window: Window::Switch,
        defaults: Defaults {
            kv_heads: Some(32),
            positions: 32_768,
            window: Some(4096),
            eos: None,
            head_dim: Some(128),
        },
        experts: false,
        gguf: "qwen3",
        gguf_adjacent_pairs: false,
    },
    FamilySpec {
        family: Family::Qwen3Moe,
        model_type: "qwen3_moe",
        architecture: "Qwen3MoeForCausalLM",
        qk_norm: true,
        qkv_bias: ATTENTION_BIAS,
        output_bias: ATTENTION_BIAS,
        mlp_bias: Bias::Never,
        window: Window::Switch,
        defaults: Defaults {
            kv_heads: Some(4),
            positions: 32_768,
            window: Some(4096),
            eos: None,
            head_dim: None,
        },
        experts: true,
        gguf: "qwen3moe",
        gguf_adjacent_pairs: false,
    },
    FamilySpec {
        family: Family::Qwen2,
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        qk_norm: false,
        qkv_bias: Bias::Always,
        output_bias: Bias::Never,
        mlp_bias: Bias::Never,
        window: Window::Switch,
        defaults: Defaults {
            kv_heads: Some(32),
            positions: 32_768,
            window: Some(4096),
            eos: None,
            head_dim: None,
        },
        experts: false,
        gguf: "qwen2",
        gguf_adjacent_pairs: false,
    },
    FamilySpec {
        family: Family::Llama,
        model_type: "llama",
        architecture: "LlamaForCausalLM",
        qk_norm: false,
        qkv_bias: ATTENTION_BIAS,
        output_bias: ATTENTION_BIAS,
        mlp_bias: Bias::Field("mlp_bias"),
        window: Window::None,
        defaults: Defaults { kv_heads: None, positions: 2048, window: None, eos: Some(2), head_dim: None },
        experts: false,
        gguf: "llama",
        gguf_adjacent_pairs: true,
    },
    FamilySpec {
        family: Family::Mistral,
        model_type: "mistral",
        architecture: "MistralForCausalLM",
        qk_norm: false,
        qkv_bias: Bias::Never,
        output_bias: Bias::Never,
        mlp_bias: Bias::Never,
        window: Window::Width,
        defaults: Defaults {
            kv_heads: Some(8),
            positions: 131_072,
            window: Some(4096),
            eos: Some(2),
            head_dim: None,
        },
        experts: false,
        // GGUF files of Mistral call themselves llama.
        gguf: "llama",
        gguf_adjacent_pairs: true,
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
