//! One field of config.json more, less or written otherwise: what transformers makes of it, or a warning, or an error that
//! names it.

use lb_model::{Error, Warning, Worker};
use serde_json::{Map, Value, json};

use crate::support::assert_error;
use crate::support::checkpoints::Copy;
use crate::support::compare::assert_same;

const TOKENS: [u32; 3] = [5, 6, 7];

/// The greedy tokens behind `TOKENS`.
fn continued(worker: &Worker) -> Vec<u32> {
    let options = lb_model::GenerateOptions::greedy(3);
    worker.generate(&mut worker.model().new_cache(), &TOKENS, &options, &mut |_, _| true).unwrap().tokens
}

fn logits(worker: &Worker) -> candle_core::Tensor {
    worker.model().forward_all(&TOKENS, &mut worker.model().new_cache()).unwrap()
}

/// A copy of a golden checkpoint whose config.json goes through `edit`.
fn with(name: &str, edit: impl FnOnce(&mut Map<String, Value>)) -> Copy {
    let copy = Copy::of(name);
    copy.edit_json("config.json", |config| edit(config.as_object_mut().unwrap()));
    copy
}

fn warned(worker: &Worker) -> Vec<&str> {
    let field = |warning| match warning {
        &Warning::UnknownField { ref field, .. } | &Warning::NoEffect { ref field, .. } => field.as_str(),
        other => panic!("{other}"),
    };
    worker.warnings().iter().map(field).collect()
}

/// Fields seen in public configs that change nothing: the same logits, to the bit, and not a word.
#[test]
fn what_says_nothing_is_passed_over() {
    let silent = [
        ("llama3", json!({"is_llama_config": true, "rope_interleaved": false})),
        ("llama3", json!({"transformers.js_config": {"dtype": "q4"}, "neftune_noise_alpha": 5})),
        ("llama3", json!({"pretraining_tp": 2, "rope_scaling": null, "quantization_config": null})),
        (
            "llama3",
            json!({"_commit_hash": "4e20de3", "_attn_implementation_autoset": true, "_flash_attn_2_enabled": false}),
        ),
        (
            "llama3",
            json!({"use_sliding_window": false, "sliding_window": null, "max_window_layers": 36, "layer_types": null}),
        ),
        (
            "llama3",
            json!({"partial_rotary_factor": 1.0, "attn_logit_softcapping": null, "final_logit_softcapping": 0.0}),
        ),
        (
            "llama3",
            json!({"num_experts": 0, "num_local_experts": 1, "no_rope_layers": [1, 1], "qk_layernorm": false}),
        ),
        (
            "llama3",
            json!({"activation": "swiglu", "hidden_act": "swish", "bias": false, "qkv_bias": false, "clip_qkv": null}),
        ),
        (
            "llama3",
            json!({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "max_length": 4096, "pruned_heads": {}}),
        ),
        (
            "llama3",
            json!({"id2label": {"0": "A"}, "label2id": {"A": 0}, "problem_type": null, "num_labels": 2}),
        ),
        (
            "llama3",
            json!({"architectures": null, "unknown_to_all": null, "is_causal": true, "vision_config": null}),
        ),
        ("llama3", json!({"architectures": ["LLaMAForCausalLM"], "pad_token_id": -1})),
        ("llama3", json!({"max_position_embeddings": 1024.0, "original_max_position_embeddings": 128})),
        (
            "llama3",
            json!({"quantization_config": {"load_in_4bit": false, "load_in_8bit": false, "quant_method": "bitsandbytes"}}),
        ),
        ("qwen2_tied", json!({"use_mrope": false, "mrope_section": null})),
        ("qwen2_tied", json!({"sliding_window": 16, "use_sliding_window": false})),
        (
            "qwen2_tied",
            json!({"sliding_window": 16, "use_sliding_window": true, "layer_types": null, "max_window_layers": 28}),
        ),
        (
            "qwen2_tied",
            json!({"sliding_window": 4096, "use_sliding_window": true, "layer_types": null, "max_window_layers": 0}),
        ),
        ("qwen2_tied", json!({"attention_bias": true, "rope_scaling": {}, "torch_dtype": "float32"})),
        ("qwen2_tied", json!({"rope_scaling": {"rope_type": "default", "rope_theta": 1_000_000.0}})),
        ("qwen3_bias", json!({"unsloth_fixed": true, "unsloth_version": "2025.1.1", "use_qk_norm": true})),
        (
            "qwen3_moe",
            json!({"shared_expert_intermediate_size": 0, "qkv_bias": false, "n_group": 1, "scoring_func": "softmax"}),
        ),
        ("mistral", json!({"sliding_window": 1_000_000, "attention_bias": false, "mlp_bias": false})),
    ];
    for (name, extra) in silent {
        let own = logits(&Copy::of(name).load());
        let worker = with(name, |config| config.extend(extra.as_object().unwrap().clone())).load();
        assert!(worker.warnings().is_empty(), "{name} {extra}: {:?}", worker.warnings());
        assert_same(&logits(&worker), &own);
    }
}

/// The same logits, and a warning that names the field. Strict loading refuses it, naming it as well.
#[test]
fn what_nobody_knows_is_a_warning() {
    let cases = [
        ("llama3", json!({"made_up": 7}), "made_up"),
        ("llama3", json!({"made_up": false}), "made_up"),
        (
            "llama3",
            json!({"auto_map": {"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}}),
            "auto_map",
        ),
        ("llama3", json!({"sliding_window": 16}), "sliding_window"),
        ("llama3", json!({"eos_token_id": [302, 300, 32000]}), "eos_token_id"),
        (
            "qwen3_bias",
            json!({"rope_parameters": {"rope_theta": 1e6, "made_up": 1}}),
            "rope_parameters.made_up",
        ),
        (
            "qwen3_bias",
            json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default", "factor": 2.0}}),
            "rope_parameters.factor",
        ),
        (
            "qwen3_bias",
            json!({"rope_parameters": {"rope_theta": 1e6, "type": "dynamic", "factor": 2.0}}),
            "rope_parameters.factor",
        ),
    ];
    for (name, extra, field) in cases {
        let own = logits(&Copy::of(name).load());
        let copy = with(name, |config| config.extend(extra.as_object().unwrap().clone()));
        let worker = copy.load();
        assert_eq!(warned(&worker), [field], "{name} {extra}");
        let said = worker.warnings()[0].to_string();
        assert!(said.contains(field) && said.contains("config.json") && !said.contains('\n'), "{said}");
        assert_same(&logits(&worker), &own);
        let strict = lb_model::Checkpoint::dir(copy.file("")).unwrap().strict();
        assert_error!(
            strict.load(&candle_core::Device::Cpu, None).unwrap_err(),
            Error::Strict { .. },
            field,
            "config.json"
        );
    }
    let two = with("llama3", |config| {
        config.insert("made_up".into(), 1.into());
        config.insert("and_this".into(), 1.into());
    });
    assert_eq!(two.load().warnings().len(), 2);
    let strict = lb_model::Checkpoint::dir(two.file("")).unwrap().strict();
    assert_error!(
        strict.load(&candle_core::Device::Cpu, None).unwrap_err(),
        Error::Strict { .. },
        "and 1 more"
    );
    // Without warnings strict loading is loading.
    let plain = Copy::of("llama3");
    lb_model::Checkpoint::dir(plain.file(""))
        .unwrap()
        .strict()
        .load(&candle_core::Device::Cpu, None)
        .unwrap();
}

/// Fields that change the computation are refused by name while they do.
#[test]
fn what_would_change_the_computation_is_refused() {
    let cases = [
        ("llama3", "attn_logit_softcapping", json!(50.0)),
        ("llama3", "query_pre_attn_scalar", json!(256)),
        ("llama3", "embedding_multiplier", json!(12.0)),
        ("llama3", "logit_scale", json!(0.0625)),
        ("llama3", "partial_rotary_factor", json!(0.25)),
        ("llama3", "rope_interleaved", json!(true)),
        ("llama3", "no_rope_layers", json!([1, 0])),
        ("llama3", "hidden_act", json!("gelu_pytorch_tanh")),
        ("llama3", "activation", json!("gelu")),
        ("llama3", "use_parallel_residual", json!(true)),
        ("llama3", "is_causal", json!(false)),
        ("llama3", "is_encoder_decoder", json!(true)),
        ("llama3", "bias", json!(true)),
        ("llama3", "qkv_bias", json!(true)),
        ("llama3", "use_qk_norm", json!(true)),
        ("llama3", "num_local_experts", json!(8)),
        ("llama3", "kv_lora_rank", json!(512)),
        ("llama3", "linear_num_value_heads", json!(32)),
        ("llama3", "vision_config", json!({"depth": 24})),
        ("llama3", "layer_types", json!(["full_attention", "linear_attention"])),
        ("llama3", "quantization_config", json!({"quant_method": "awq", "bits": 4})),
        ("llama3", "quantization", json!({"group_size": 64, "bits": 4})),
        ("qwen2_tied", "use_mrope", json!(true)),
        ("qwen3_bias", "use_qk_norm", json!(false)),
        ("qwen3_bias", "mlp_bias", json!(true)),
        ("qwen3_moe", "shared_expert_intermediate_size", json!(512)),
        ("qwen3_moe", "scoring_func", json!("sigmoid")),
        ("mistral", "sliding_window", json!(16)),
        ("mistral", "attention_bias", json!(true)),
    ];
    for (name, field, value) in cases {
        let copy = with(name, |config| drop(config.insert(field.into(), value)));
        let Error::UnsupportedConfig { field: named, reason, .. } = copy.error() else {
            panic!("{name} {field}")
        };
        assert_eq!(named, field, "{reason}");
    }
    // A window hides behind a switch in some families.
    for (layers, positions) in [(0, 16), (1, 16)] {
        let copy = with("qwen2_tied", |config| {
            config.remove("layer_types");
            config.insert("use_sliding_window".into(), true.into());
            config.insert("sliding_window".into(), positions.into());
            config.insert("max_window_layers".into(), layers.into());
        });
        assert_error!(
            copy.error(),
            Error::UnsupportedConfig { .. },
            "use_sliding_window",
            "max_position_embeddings"
        );
    }
    // The way out that the error tells works.
    let copy = with("mistral", |config| {
        config.insert("sliding_window".into(), 16.into());
        config.insert("max_position_embeddings".into(), 16.into());
    });
    assert_eq!(copy.load().config().position_limit(), 16);
}

/// A missing field is as if transformers' default stood there; so is null, but for windows and heads.
#[test]
fn missing_fields_have_their_defaults() {
    let cases = [
        ("llama3", "rope_parameters", json!({"rope_theta": 10000.0, "rope_type": "default"})),
        ("qwen2_tied", "rope_parameters", json!({"rope_theta": 10000.0, "rope_type": "default"})),
        ("qwen3_bias", "rope_parameters", json!({"rope_theta": 10000.0, "rope_type": "default"})),
        ("qwen3_moe", "rope_parameters", json!({"rope_theta": 10000.0, "rope_type": "default"})),
        ("mistral", "rope_parameters", json!({"rope_theta": 10000.0, "rope_type": "default"})),
        ("llama3", "rms_norm_eps", json!(1e-6)),
        ("qwen2_tied", "rms_norm_eps", json!(1e-6)),
        ("mistral", "rms_norm_eps", json!(1e-6)),
        ("llama3", "max_position_embeddings", json!(2048)),
        ("qwen2_tied", "max_position_embeddings", json!(32768)),
        ("qwen3_bias", "max_position_embeddings", json!(32768)),
        ("mistral", "max_position_embeddings", json!(131_072)),
        ("llama3", "hidden_act", json!("silu")),
        ("llama3", "attention_bias", json!(false)),
        ("qwen3_moe", "norm_topk_prob", json!(false)),
        ("qwen3_moe", "decoder_sparse_step", json!(1)),
        ("qwen3_moe", "mlp_only_layers", json!([])),
    ];
    for (name, field, default) in cases {
        let written = with(name, |config| drop(config.insert(field.into(), default))).load();
        let own = logits(&written);
        let missing = with(name, |config| drop(config.shift_remove(field))).load();
        let null = with(name, |config| drop(config.insert(field.into(), Value::Null))).load();
        for worker in [missing, null] {
            assert!(worker.warnings().is_empty());
            assert_eq!(worker.config(), written.config(), "{name}: {field}");
            assert_same(&logits(&worker), &own);
        }
    }
    // Without a word on it every head has keys of its own in Llama, and eight of them in Mistral.
    let heads = |name: &str| with(name, |config| drop(config.shift_remove("num_key_value_heads")));
    assert_error!(heads("llama3").error(), Error::TensorShape { .. }, "k_proj", "[96, 32]");
    let json = std::fs::read(heads("mistral").file("config.json")).unwrap();
    let (mistral, _) = lb_model::ModelConfig::parse(&json, "config.json".as_ref()).unwrap();
    assert_eq!(mistral.num_key_value_heads, 8);
}

/// What ends an answer where config.json does not say: other files, else the family's usual token.
#[test]
fn ends_of_answers_come_from_somewhere() {
    let ends = |eos: Option<Value>, others: bool| {
        let copy = with("llama3", |config| {
            config.shift_remove("eos_token_id");
            config.extend(eos.map(|eos| ("eos_token_id".to_owned(), eos)));
        });
        if !others {
            std::fs::remove_file(copy.file("generation_config.json")).unwrap();
            copy.edit_json("tokenizer_config.json", |c| drop(c.as_object_mut().unwrap().remove("eos_token")));
        }
        copy.load().config().eos_token_ids.clone()
    };
    assert_eq!(ends(None, true), [300, 302]);
    assert_eq!(ends(None, false), [2], "transformers' default of Llama");
    assert_eq!(ends(Some(Value::Null), false), [0; 0]);
    assert_eq!(ends(Some(json!(-1)), false), [0; 0]);
    assert_eq!(ends(Some(json!([7, 9])), false), [7, 9]);
}

/// A generation_config.json that is no JSON is left out, as transformers does, with a warning.
#[test]
fn a_broken_generation_config_is_left_out() {
    let copy = Copy::of("llama3");
    std::fs::write(copy.file("generation_config.json"), "{\"eos_token_id\": 2,}").unwrap();
    let worker = copy.load();
    assert_eq!(worker.config().eos_token_ids, [300, 302]);
    let said: Vec<String> = worker.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("generation_config.json") && said[0].contains("trailing comma"), "{said:?}");
    let strict = lb_model::Checkpoint::dir(copy.file("")).unwrap().strict();
    assert_error!(
        strict.load(&candle_core::Device::Cpu, None).unwrap_err(),
        Error::Strict { .. },
        "generation_config"
    );
}

/// The cases by which this was found, and the tokens that transformers gives.
#[test]
fn folders_that_were_refused_once() {
    let own = continued(&Copy::of("llama3").load());
    let smollm2 = with("llama3", |config| {
        config.insert("is_llama_config".into(), true.into());
        config.insert("rope_interleaved".into(), false.into());
    });
    assert_eq!(continued(&smollm2.load()), own);
    let llama2 = with("llama3", |config| {
        config.shift_remove("rope_parameters");
        config.insert("rope_scaling".into(), Value::Null);
    })
    .load();
    assert_eq!(llama2.config().rope_theta.to_bits(), 10_000f64.to_bits());
    let written = with("llama3", |config| {
        config.shift_remove("rope_parameters");
        config.insert("rope_theta".into(), 10000.0.into());
    });
    assert_eq!(continued(&llama2), continued(&written.load()));
    assert_ne!(
        logits(&llama2).to_vec2::<f32>().unwrap(),
        logits(&Copy::of("llama3").load()).to_vec2::<f32>().unwrap()
    );
}

/// Editors of Windows write a mark before the text.
#[test]
fn a_byte_order_mark_is_passed_over() {
    let copy = Copy::of("llama3");
    for file in ["config.json", "tokenizer_config.json", "generation_config.json"] {
        let text = std::fs::read_to_string(copy.file(file)).unwrap();
        std::fs::write(copy.file(file), format!("\u{FEFF}{text}")).unwrap();
    }
    assert_same(&logits(&copy.load()), &logits(&Copy::of("llama3").load()));
}

/// Every foreign architecture is one line that says what is missing.
#[test]
fn foreign_architectures_are_one_line() {
    let cases = [
        ("gemma2", "soft-capped"),
        ("gemma3", "gemma3_text"),
        ("gemma", "Gemma 1"),
        ("phi3", "LongRoPE"),
        ("phi", "rotated in part"),
        ("qwen3_next", "linear attention"),
        ("qwen3_5", "linear attention"),
        ("qwen3_5_moe_text", "linear attention"),
        ("mamba", "state spaces"),
        ("gpt2", "learned positions"),
        ("qwen2_vl", "pictures"),
        ("qwen3_vl", "pictures"),
        ("llava", "pictures"),
        ("deepseek_v3", "latent attention"),
        ("gpt_oss", "attention sinks"),
        ("mixtral", "mixtures of experts"),
        ("smollm3", "layers without rotation"),
        ("brand_new", "not an architecture that is known here"),
    ];
    for (model_type, what) in cases {
        let error =
            with("llama3", |config| drop(config.insert("model_type".into(), model_type.into()))).error();
        assert_error!(
            error,
            Error::UnsupportedConfig { .. },
            "model_type",
            model_type,
            what,
            "qwen3, qwen3_moe, qwen2, llama"
        );
    }
    // One that nobody here knows is told by its fields.
    let error = with("llama3", |config| {
        config.insert("model_type".into(), "brand_new".into());
        config.insert("kv_lora_rank".into(), 512.into());
    })
    .error();
    assert_error!(error, Error::UnsupportedConfig { .. }, "latent attention");
    for (class, what) in [
        ("LlamaForSequenceClassification", "scores text"),
        ("LlamaModel", "embeds text"),
        ("LlamaForQuestionAnswering", "marks answers"),
    ] {
        let error =
            with("llama3", |config| drop(config.insert("architectures".into(), json!([class])))).error();
        assert_error!(
            error,
            Error::UnsupportedConfig { .. },
            "architectures",
            class,
            what,
            "LlamaForCausalLM"
        );
    }
}

/// A wrong type is named with its field.
#[test]
fn wrong_types_name_their_field() {
    for (field, value) in
        [("hidden_size", json!("wide")), ("num_hidden_layers", json!(2.5)), ("rope_theta", json!([1]))]
    {
        let error = with("llama3", |config| drop(config.insert(field.into(), value))).error();
        assert_error!(error, Error::Json { .. }, field, "config.json");
    }
}
