//! Metadata as public files have them: what says nothing, what is foreign, frequency factors.

use candle_core::Device;
use lb_model::{Checkpoint, Error, GgufFormat, RopeScaling, Warning};

use super::gguf::{Written, load, logits};
use crate::support::assert_error;
use crate::support::checkpoints::{TIED, prompt};
use crate::support::gguf_bytes::{Gguf, Value};
use crate::support::random_checkpoint::Random;

fn file(family: &str) -> (Written, Gguf) {
    let folder = Random::of(family);
    let file = Written::of(&Checkpoint::dir(folder.path()).unwrap(), GgufFormat::F32);
    let gguf = Gguf::read(&file.path());
    (file, gguf)
}

/// Keys that nobody knows, and known ones at the values that change nothing.
#[test]
fn keys_that_say_nothing_are_accepted() {
    let (file, mut gguf) = file("qwen3");
    let reference = logits(&file.load(), &prompt(TIED));
    let flag = |flag: u8| Value::Raw(7, vec![flag]);
    for (key, value) in [
        ("qwen3.new_thing", Value::Text("on".into())),
        ("qwen3.some.list", Value::U32s(vec![1, 2])),
        ("general.quantized_by", Value::Text("somebody".into())),
        ("quantize.imatrix.entries_count", Value::U32(196)),
        ("qwen3.attention.layer_norm_epsilon", Value::F32(1e-5)),
        ("qwen3.attention.sliding_window_pattern", flag(1)),
        ("qwen3.attention.causal", flag(1)),
        ("qwen3.pooling_type", Value::U32(3)),
        ("qwen3.expert_count", Value::U32(0)),
        ("qwen3.final_logit_softcapping", Value::F32(0.0)),
        ("qwen3.ssm.state_size", Value::U32(0)),
        ("qwen3.rope.dimension_sections", Value::U32s(vec![0, 0, 0, 0])),
        ("qwen3.rope.scaling.factor", Value::F32(0.0)),
        ("tokenizer.ggml.eot_token_id", Value::U32(302)),
        ("tokenizer.ggml.fim_pre_token_id", Value::U32(9_999_999)),
    ] {
        gguf.set(key, value);
        gguf.write(&file.path());
        assert_eq!(logits(&file.load(), &prompt(TIED)), reference, "{key}");
    }
    let checkpoint = Checkpoint::gguf(file.path()).unwrap();
    let warnings = checkpoint.warnings().unwrap();
    let unknown = warnings.iter().filter_map(|warning| match warning {
        Warning::UnknownField { field, .. } => Some(field.as_str()),
        _ => None,
    });
    assert!(unknown.eq(["qwen3.new_thing", "qwen3.some.list"]), "{warnings:?}");
    let error = checkpoint.strict().load(&Device::Cpu, None).unwrap_err().to_string();
    assert!(error.contains("qwen3.new_thing"), "{error}");
}

#[test]
fn keys_that_change_the_computation_are_refused_by_name() {
    for (key, value) in [
        ("qwen3.final_logit_softcapping", Value::F32(30.0)),
        ("qwen3.attn_logit_softcapping", Value::F32(50.0)),
        ("qwen3.attention.temperature_scale", Value::F32(0.1)),
        ("qwen3.embedding_scale", Value::F32(12.0)),
        ("qwen3.residual_scale", Value::F32(0.22)),
        ("qwen3.ssm.state_size", Value::U32(128)),
        ("qwen3.attention.q_lora_rank", Value::U32(64)),
        ("qwen3.rope.dimension_sections", Value::U32s(vec![24, 20, 20, 0])),
        ("qwen3.attention.causal", Value::Raw(7, vec![0])),
    ] {
        let (file, mut gguf) = file("qwen3");
        gguf.set(key, value);
        gguf.write(&file.path());
        assert_error!(load(&file.path()).unwrap_err(), Error::UnsupportedConfig { .. }, key);
    }
    // Mixtral calls itself llama.
    let (file, mut gguf) = file("llama");
    gguf.set("llama.expert_count", Value::U32(8));
    gguf.write(&file.path());
    assert_error!(load(&file.path()).unwrap_err(), Error::UnsupportedConfig { .. }, "llama.expert_count");
}

/// One line that says what the model has and what is computed here.
#[test]
fn foreign_architectures_are_told_in_a_line() {
    for (architecture, what) in [
        ("gemma", "Gemma 1"),
        ("gemma2", "soft-capped scores and logits"),
        ("gemma3n", "share keys and values"),
        ("phi3", "joined projections"),
        ("qwen3next", "linear attention"),
        ("qwen35moe", "linear attention"),
        ("qwen2moe", "experts that every token goes to"),
        ("qwen2vl", "pictures"),
        ("llama4", "attention in chunks"),
        ("gpt-oss", "attention sinks"),
        ("mamba", "state spaces"),
        ("falcon-h1", "state spaces"),
        ("deepseek2", "latent attention"),
        ("bert", "an encoder"),
        ("clip", "not a language model"),
        ("granite", "scaled embeddings"),
        ("unheard-of", "only qwen3, qwen3moe, qwen2, llama"),
    ] {
        let (file, mut gguf) = file("qwen3");
        gguf.set("general.architecture", Value::Text(architecture.into()));
        gguf.write(&file.path());
        let error = load(&file.path()).unwrap_err();
        assert!(!error.to_string().contains('\n'));
        assert_error!(error, Error::UnsupportedConfig { .. }, "general.architecture", architecture, what);
    }
}

/// Llama 3.1 and later bring their scaling as a tensor of factors: it is used, it is what the scaling of config.json
/// computes, and without it the logits are others.
#[test]
fn frequency_factors_are_used() {
    let folder = Random::of("llama");
    let original = Checkpoint::dir(folder.path()).unwrap();
    let reference = logits(&lb_model::Worker::load(folder.path()).unwrap(), &prompt(TIED));
    let file = Written::of(&original, GgufFormat::F32);
    let mut gguf = Gguf::read(&file.path());
    let worker = file.load();
    assert!(matches!(worker.config().rope_scaling, RopeScaling::Factors { .. }));
    let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest(&reference, &logits(&worker, &prompt(TIED))) < 1e-4);
    gguf.tensors.retain(|tensor| tensor.name != "rope_freqs.weight");
    gguf.write(&file.path());
    assert!(largest(&reference, &logits(&file.load(), &prompt(TIED))) > 1e-2);
}

/// Files with an end of text beyond the vocabulary, and with the rotary frequencies of every layer: both are public.
#[test]
fn what_converters_got_wrong_does_no_harm() {
    let (file, mut gguf) = file("llama");
    let reference = logits(&file.load(), &prompt(TIED));
    let ends = file.load().tokenizer().eos_ids().to_vec();
    gguf.set("tokenizer.ggml.eos_token_id", Value::U32(448));
    gguf.set("tokenizer.ggml.eot_token_id", Value::U32(1 << 30));
    for layer in 0..2 {
        let mut tensor = gguf.tensor("blk.0.attn_norm.weight").clone();
        (tensor.name, tensor.offset) = (format!("blk.{layer}.attn_rot_embd.weight"), gguf.data.len() as u64);
        gguf.data.extend(vec![0; 4 * 64]);
        gguf.tensors.push(tensor);
    }
    gguf.write(&file.path());
    let worker = file.load();
    assert_eq!(logits(&worker, &prompt(TIED)), reference);
    assert!(!ends.is_empty() && worker.tokenizer().eos_ids().iter().all(|id| ends.contains(id)));
}
