//! What the keys of an architecture mean to this crate. Keys that are in no list say nothing here; llama.cpp reads none of
//! them either.

/// Read into the configuration; those of windows, where a family has them.
pub(super) const READ: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "vocab_size",
];

/// Read for mixtures of experts; elsewhere they must be 0.
pub(super) const EXPERTS: &[&str] = &["expert_count", "expert_used_count", "expert_feed_forward_length"];

/// They say nothing about the computation of one forward pass; those of windows, not without one.
pub(super) const HARMLESS: &[&str] = &[
    "attention.key_length_swa",
    "attention.layer_norm_epsilon",
    "attention.value_length_swa",
    "embedding_length_out",
    "pooling_type",
    "rope.dimension_count_swa",
    "rope.scaling.finetuned",
    "tensor_data_layout",
];

/// They change the computation unless they have one of these values; booleans count as 0 and 1.
pub(super) const NEUTRAL: &[(&str, &[f64])] = &[
    ("attention.causal", &[1.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.output_scale", &[0.0, 1.0]),
    ("attention.scale", &[0.0]),
    ("attention.shared_kv_layers", &[0.0]),
    ("attention.temperature_length", &[0.0]),
    ("attention.temperature_scale", &[0.0]),
    ("attention.value_scale", &[0.0, 1.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("embedding_length_per_layer_input", &[0.0]),
    ("embedding_scale", &[0.0, 1.0]),
    ("expert_chunk_feed_forward_length", &[0.0]),
    ("expert_gating_func", &[0.0, 1.0]),
    ("expert_group_count", &[0.0, 1.0]),
    ("expert_group_scale", &[0.0, 1.0]),
    ("expert_group_used_count", &[0.0, 1.0]),
    ("expert_latent_length", &[0.0]),
    ("expert_shared_count", &[0.0]),
    ("expert_shared_feed_forward_length", &[0.0]),
    // llama.cpp scales the chosen experts of qwen3moe to a sum of 1 whatever the file says.
    ("expert_weights_norm", &[1.0]),
    ("expert_weights_scale", &[0.0, 1.0]),
    ("final_logit_softcapping", &[0.0]),
    ("full_attention_interval", &[0.0, 1.0]),
    ("hash_layer_count", &[0.0]),
    ("interleave_moe_layer_step", &[0.0, 1.0]),
    ("leading_dense_block_count", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("moe_every_n_layers", &[0.0, 1.0]),
    ("moe_latent_size", &[0.0]),
    ("n_deepstack_layers", &[0.0]),
    ("nextn_predict_layers", &[0.0]),
    ("num_loops", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
    ("rope.dimension_sections", &[0.0]),
    ("rope.scaling.alpha", &[0.0]),
    ("rope.scaling.attn_factor", &[1.0]),
    ("rope.scaling.yarn_ext_factor", &[1.0]),
    ("rope.scaling.yarn_log_multiplier", &[0.0]),
    ("router_logit_softcapping", &[0.0]),
    ("swiglu_clamp_exp", &[0.0]),
    ("swiglu_clamp_shexp", &[0.0]),
    ("swin_norm", &[0.0]),
    ("use_parallel_residual", &[0.0]),
];

/// Beginnings of keys about parts that no family here has; they must be 0.
pub(super) const ELSEWHERE: &[&str] = &[
    "adapters.",
    "attention.compress_",
    "attention.indexer.",
    "attention.kv_lora_rank",
    "attention.q_lora_rank",
    "attention.recurrent_layers",
    "hyper_connection.",
    "kda.",
    "ple.",
    "shortconv.",
    "ssm.",
    "wkv.",
];
