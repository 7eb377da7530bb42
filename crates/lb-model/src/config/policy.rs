//! What the fields of config.json mean that no family computes with: nothing, or something that is missing here.
//!
//! Null always says nothing. A field in no list has no effect and is named in a warning.

use serde_json::Value;

use super::{Bias, FamilySpec, Fields, unsupported};
use crate::Result;

/// Fields that say nothing about the computation of one forward pass: bookkeeping, training, sampling, labels.
pub(super) const HARMLESS: &[&str] = &[
    "attention_dropout",
    "attn_dropout",
    "attn_implementation",
    "attn_pdrop",
    "attribute_map",
    "bad_words_ids",
    "base_model_pp_plan",
    "base_model_tp_plan",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "has_no_defaults_at_init",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "is_composition",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "min_new_tokens",
    "mlp_dropout",
    "model_max_length",
    "name_or_path",
    "neftune_noise_alpha",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    // It cut matrices in slices for training, which changes the order of sums alone.
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "sub_configs",
    "summary_type",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention_2",
    "use_return_dict",
];

/// So begin names that programs keep for themselves.
const PRIVATE: [&str; 3] = ["_", "unsloth_", "axolotl_"];

/// A value with which a field changes nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Neutral {
    Flag(bool),
    Number(f64),
    Text(&'static str),
    /// An empty list, object or string.
    Empty,
    /// A list of nothing but this number.
    All(f64),
}

impl Neutral {
    pub(super) fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Flag(flag), Value::Bool(value)) => *value == flag,
            (Self::Number(number), value) => value.as_f64() == Some(number),
            (Self::Text(text), Value::String(value)) => value.eq_ignore_ascii_case(text),
            (Self::Empty, Value::Array(list)) => list.is_empty(),
            (Self::Empty, Value::Object(map)) => map.is_empty(),
            (Self::Empty, Value::String(text)) => text.is_empty(),
            (Self::All(number), Value::Array(list)) => list.iter().all(|v| v.as_f64() == Some(number)),
            _ => false,
        }
    }
}

/// Fields with which other architectures compute something else. They are refused unless null or neutral.
pub(super) struct Active {
    pub(super) fields: &'static [&'static str],
    pub(super) neutral: &'static [Neutral],
    pub(super) missing: &'static str,
}

use Neutral::{All, Empty, Flag, Number, Text};

pub(super) const ACTIVE: &[Active] = &[
    Active {
        fields: &[
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "logits_soft_cap",
            "logit_softcapping",
        ],
        neutral: &[Number(0.0)],
        missing: "soft-capped logits are not computed here",
    },
    Active {
        fields: &[
            "query_pre_attn_scalar",
            "attention_multiplier",
            "softmax_scale",
            "dim_model_base",
            "scale_depth",
        ],
        neutral: &[],
        missing: "attention and residuals with a scale of their own are not computed here",
    },
    Active {
        fields: &[
            "embedding_multiplier",
            "residual_multiplier",
            "logits_scaling",
            "logit_scale",
            "scale_emb",
        ],
        neutral: &[Number(1.0)],
        missing: "scaled embeddings, residuals and logits are not computed here",
    },
    Active {
        fields: &["clip_qkv"],
        neutral: &[Number(0.0)],
        missing: "clipped queries, keys and values are not computed here",
    },
    Active {
        fields: &["partial_rotary_factor", "rotary_pct", "rotary_percent"],
        neutral: &[Number(1.0)],
        missing: "only rotation of whole heads is computed here",
    },
    Active {
        fields: &["rope_interleaved", "rotary_interleaved", "rope_interleave"],
        neutral: &[Flag(false)],
        missing: "rotation of adjacent pairs is not computed here",
    },
    Active {
        fields: &["use_mrope", "mrope_section"],
        neutral: &[Flag(false), Empty],
        missing: "rotation by several positions (of pictures) is not computed here",
    },
    Active {
        fields: &["no_rope_layers", "no_rope_layer_interval", "no_rope_layers_interval"],
        // 1 marks a layer with rotation.
        neutral: &[Number(0.0), Empty, All(1.0)],
        missing: "layers without rotation are not computed here",
    },
    Active {
        fields: &["alibi", "use_alibi"],
        neutral: &[Flag(false)],
        missing: "ALiBi is not computed here",
    },
    Active {
        fields: &["position_embedding_type"],
        neutral: &[Text("rope"), Text("rotary"), Text("default")],
        missing: "only rotary positions are computed here",
    },
    Active {
        fields: &["activation", "activation_function", "hidden_activation", "mlp_activation"],
        neutral: &[Text("silu"), Text("swish"), Text("swiglu")],
        missing: "only silu, in gated layers",
    },
    Active {
        fields: &["parallel_attn", "use_parallel_residual", "parallel_residual"],
        neutral: &[Flag(false)],
        missing: "attention beside the MLP is not computed here",
    },
    Active {
        fields: &["is_causal"],
        neutral: &[Flag(true)],
        missing: "only attention to what came before is computed here",
    },
    Active {
        fields: &[
            "use_bidirectional_attention",
            "bidirectional",
            "is_encoder_decoder",
            "add_cross_attention",
        ],
        neutral: &[Flag(false)],
        missing: "only attention to what came before is computed here",
    },
    Active {
        fields: &["cross_attention_layers", "pruned_heads"],
        neutral: &[Empty],
        missing: "only whole layers of self-attention",
    },
    Active {
        fields: &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"],
        neutral: &[Number(0.0), Number(1.0)],
        missing: "this family has no mixtures of experts",
    },
    Active {
        fields: &[
            "n_shared_experts",
            "num_shared_experts",
            "shared_expert_intermediate_size",
            "first_k_dense_replace",
        ],
        neutral: &[Number(0.0)],
        missing: "shared experts and dense first layers are not computed here",
    },
    Active {
        fields: &["routed_scaling_factor", "n_group", "topk_group", "moe_layer_freq"],
        neutral: &[Number(0.0), Number(1.0)],
        missing: "experts in groups or with scaled weights are not computed here",
    },
    Active { fields: &["scoring_func"], neutral: &[Text("softmax")], missing: "only softmax over experts" },
    Active { fields: &["topk_method"], neutral: &[Text("greedy")], missing: "only the likeliest experts" },
    Active {
        fields: &["q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"],
        neutral: &[Number(0.0)],
        missing: "latent attention (MLA) is not computed here",
    },
    Active {
        fields: &[
            "linear_num_key_heads",
            "linear_num_value_heads",
            "mamba_d_state",
            "ssm_state_size",
            "state_size",
            "ssm_cfg",
        ],
        neutral: &[Number(0.0), Empty],
        missing: "linear attention and state spaces are not computed here",
    },
    Active {
        fields: &["full_attention_interval", "attn_layer_period"],
        neutral: &[Number(0.0), Number(1.0)],
        missing: "layers without attention are not computed here",
    },
    Active {
        fields: &["sinks", "attention_sinks"],
        neutral: &[Flag(false), Number(0.0)],
        missing: "attention sinks are not computed here",
    },
    Active {
        fields: &["num_kv_shared_layers", "hidden_size_per_layer_input"],
        neutral: &[Number(0.0)],
        missing: "layers that share or add to each other's inputs are not computed here",
    },
    Active {
        fields: &["vision_config", "audio_config", "visual", "vision_tower", "mm_vision_tower"],
        neutral: &[Empty],
        missing: "pictures and sound are not read here",
    },
    Active {
        fields: &["bias", "use_bias", "add_bias_linear", "lm_head_bias", "attention_out_bias"],
        neutral: &[Flag(false)],
        missing: "this family has no such bias",
    },
    Active { fields: &["no_bias"], neutral: &[Flag(true)], missing: "this family has no such bias" },
    Active {
        fields: &["sandwich_norm", "use_post_norm", "post_norm"],
        neutral: &[Flag(false)],
        missing: "only norms before attention and MLP are computed here",
    },
    Active {
        fields: &["rms_norm", "use_rmsnorm"],
        neutral: &[Flag(true)],
        missing: "only RMSNorm is computed here",
    },
    Active {
        fields: &["norm_type", "normalization_type"],
        neutral: &[Text("rmsnorm"), Text("rms_norm"), Text("rms")],
        missing: "only RMSNorm is computed here",
    },
];

/// Names for norms on queries and keys, which a family has or has not.
const QK_NORM: &[&str] = &["qk_norm", "use_qk_norm", "qk_layernorm", "qk_layer_norms", "qk_layer_norm"];

/// Judges every field that is left: nothing, a warning, or an error that names it.
pub(super) fn judge(fields: &mut Fields<'_>, spec: &FamilySpec) -> Result<()> {
    for (field, value) in std::mem::take(&mut fields.map) {
        let name = field.as_str();
        if value.is_null() || HARMLESS.contains(&name) || PRIVATE.iter().any(|p| name.starts_with(p)) {
            continue;
        }
        let family = if QK_NORM.contains(&name) {
            Some((spec.qk_norm, "as this family has norms on queries and keys, or has none"))
        } else if name == "qkv_bias" {
            Some((
                spec.qkv_bias == Bias::Always,
                "as this family has biases on queries, keys and values, or has none",
            ))
        } else {
            None
        };
        if let Some((has, reason)) = family {
            if value != Value::Bool(has) {
                return Err(unsupported(name, &value, &format!("only {has}, {reason}")));
            }
        } else if let Some(active) = ACTIVE.iter().find(|active| active.fields.contains(&name)) {
            if !active.neutral.iter().any(|neutral| neutral.is(&value)) {
                return Err(unsupported(name, &value, active.missing));
            }
        } else if name == "auto_map" {
            fields.no_effect(name, &value, "code that comes with a model is never run");
        } else {
            fields.unknown(name, &value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ACTIVE, HARMLESS};

    #[test]
    fn no_field_stands_twice() {
        let mut all: Vec<&str> =
            ACTIVE.iter().flat_map(|active| active.fields).chain(HARMLESS).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
