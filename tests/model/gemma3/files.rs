//! GGUF files, configurations and tokenizers of Gemma 3.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use latent_briefing::prelude::*;
use lb_model::{Error, GgufFormat, LocalAttention, ModelConfig};
use serde_json::{Map, Value, json};

use super::super::gguf::{Written, logits};
use super::{WINDOW, load};
use crate::support::assert_error;
use crate::support::checkpoints::{golden, prompt};
use crate::support::compare::flat;
use crate::support::gguf_bytes::{self, Gguf};

/// Norms are stored with 1 added, names are llama.cpp's, and what comes back computes the same.
#[test]
fn gguf_files_compute_the_same() {
    let checkpoint = Checkpoint::dir(golden("gemma3")).unwrap();
    let worker = load("gemma3");
    let reference = logits(&worker, &prompt("gemma3"));
    let range =
        reference.iter().fold(f32::MIN, |a, b| a.max(*b)) - reference.iter().fold(f32::MAX, |a, b| a.min(*b));
    for (format, bound) in [(GgufFormat::F32, 1e-6), (GgufFormat::F16, 5e-3), (GgufFormat::Q8_0, 1e-1)] {
        let file = Written::of(&checkpoint, format);
        let read = file.load();
        assert_eq!(read.config().local, worker.config().local);
        assert!((read.config().attention_scale - worker.config().attention_scale).abs() < 1e-7);
        assert!(read.config().tie_word_embeddings);
        let got = logits(&read, &prompt("gemma3"));
        let far = got.iter().zip(&reference).fold(0f32, |far, (a, b)| far.max((a - b).abs())) / range;
        assert!(far <= bound, "{}: {far:e}", format.name());
    }
    let file = Written::of(&checkpoint, GgufFormat::F32);
    let mut gguf = Gguf::read(&file.path());
    let tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(golden("gemma3").join("model.safetensors"), &Device::Cpu).unwrap();
    for (name, stored) in [
        ("model.norm", "output_norm"),
        ("model.layers.1.post_attention_layernorm", "blk.1.post_attention_norm"),
        ("model.layers.1.pre_feedforward_layernorm", "blk.1.ffn_norm"),
        ("model.layers.1.post_feedforward_layernorm", "blk.1.post_ffw_norm"),
        ("model.layers.5.self_attn.q_norm", "blk.5.attn_q_norm"),
    ] {
        let weights = flat(&tensors[&format!("{name}.weight")]);
        let at = gguf.tensor(&format!("{stored}.weight")).offset as usize;
        for (weight, bytes) in weights.iter().zip(gguf.data[at..].chunks_exact(4)) {
            let stored = f32::from_le_bytes(bytes.try_into().unwrap());
            assert!((f64::from(stored) - weight - 1.0).abs() < 1e-6, "{name}");
        }
    }
}

/// What such files do not say is what llama.cpp takes, and what they cannot say is refused by name.
#[test]
fn gguf_files_mean_what_llama_cpp_reads() {
    let file = Written::of(&Checkpoint::dir(golden("gemma3")).unwrap(), GgufFormat::F32);
    let mut gguf = Gguf::read(&file.path());
    gguf.values.retain(|(key, _)| !key.ends_with("freq_base_swa"));
    gguf.write(&file.path());
    let local = |worker: &Worker| worker.config().local.clone().unwrap();
    let LocalAttention { window, rope_theta, layers, .. } = local(&file.load());
    assert_eq!((window, layers), (WINDOW, vec![true, true, true, true, true, false, true]));
    assert!((rope_theta - 1e4).abs() < 1e-9);
    for (pattern, second) in
        [(gguf_bytes::Value::U32(2), false), (gguf_bytes::Value::U32s(vec![1, 1, 0, 1, 1, 0, 1]), true)]
    {
        gguf.set("gemma3.attention.sliding_window_pattern", pattern);
        gguf.write(&file.path());
        assert_eq!(local(&file.load()).layers[1], second);
    }
    gguf.set("gemma3.attention.sliding_window_pattern", gguf_bytes::Value::U32s(vec![1, 1, 0]));
    gguf.write(&file.path());
    let error = crate::model::gguf::load(&file.path()).unwrap_err();
    assert_error!(error, Error::Config { .. }, "layer_types", "one for each layer");
    gguf.values.retain(|(key, _)| !key.contains("sliding_window"));
    gguf.write(&file.path());
    assert_eq!(file.load().config().local, None);
    gguf.set("gemma3.final_logit_softcapping", gguf_bytes::Value::F32(30.0));
    gguf.write(&file.path());
    let error = crate::model::gguf::load(&file.path()).unwrap_err();
    assert_error!(error, Error::UnsupportedConfig { .. }, "final_logit_softcapping");
    let folder = tempfile::TempDir::new().unwrap();
    let scaled = Checkpoint::dir(golden("gemma3_scaled")).unwrap();
    let error = scaled.write_gguf(folder.path().join("x.gguf"), GgufFormat::F32).unwrap_err();
    assert_error!(error, Error::UnsupportedConfig { .. }, "attention_scale", "GGUF files do not say it");
}

fn with(field: &str, value: Value) -> Result<ModelConfig, Error> {
    let json = std::fs::read(golden("gemma3").join("config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_slice(&json).unwrap();
    config.insert(field.to_owned(), value);
    let json = serde_json::to_vec(&config).unwrap();
    ModelConfig::parse(&json, Path::new("M/config.json")).map(|(config, _)| config)
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let sliding = vec!["sliding_attention"; 6];
    for (field, value, says) in [
        ("attn_logit_softcapping", json!(50.0), "soft-capped"),
        ("final_logit_softcapping", json!(30.0), "soft-capped"),
        ("hidden_activation", json!("gelu"), "only gelu_pytorch_tanh"),
        ("use_bidirectional_attention", json!(true), "came before"),
        ("vision_config", json!({"hidden_size": 1152}), "pictures"),
        ("sliding_window", json!(null), "need its width"),
        ("sliding_window", json!(0), "at least 1"),
        ("layer_types", json!(sliding), "6 kinds for 7 layers"),
        ("layer_types", json!(vec!["chunked_attention"; 7]), "chunked_attention are not computed"),
        ("rope_parameters", json!({"rope_type": "default", "rope_theta": 1e6}), "full_attention"),
        (
            "rope_parameters",
            json!({"sliding_attention": {"rope_type": "linear", "factor": 2.0}}),
            "unscaled rotary",
        ),
        ("architectures", json!(["Gemma3ForConditionalGeneration"]), "only Gemma3ForCausalLM"),
        ("architectures", json!(["Gemma3TextModel"]), "no head to write with"),
        ("model_type", json!("gemma3"), "gemma3_text"),
        ("model_type", json!("gemma2"), "soft-capped"),
        ("model_type", json!("gemma"), "Gemma 1"),
        ("model_type", json!("gemma3n"), "share keys and values"),
    ] {
        let error = with(field, value.clone()).unwrap_err();
        assert!(matches!(error, Error::UnsupportedConfig { .. }), "{field} = {value}: {error}");
        let error = error.to_string();
        assert!(error.contains(field) && error.contains(says), "{field} = {value}: {error}");
    }
    for (field, value) in [("query_pre_attn_scalar", json!(0)), ("rope_local_base_freq", json!(-1.0))] {
        let mut json: Map<String, Value> = serde_json::from_slice(
            &std::fs::read(golden("gemma3").join("config.transformers4.json")).unwrap(),
        )
        .unwrap();
        json.insert(field.to_owned(), value);
        let parsed = ModelConfig::parse(&serde_json::to_vec(&json).unwrap(), Path::new("M/config.json"));
        assert_error!(parsed.unwrap_err(), Error::Config { .. }, field);
    }
    let all = with("layer_types", json!(vec!["full_attention"; 7])).unwrap();
    assert_eq!(all.local, None);
}

/// Line ends and runs of spaces among the added tokens are text like any other; what looks like markup is spelled there.
#[test]
fn white_space_among_added_tokens_is_text() {
    let pieces = ["\u{2581}", "a", "<", "b", ">", "\n", "\u{2581}\u{2581}", "<b>", "\u{2581}a"];
    let bytes = (0..256u32).map(|byte| format!("<0x{byte:02X}>"));
    let vocab: Map<String, Value> =
        bytes.chain(pieces.map(str::to_owned)).zip((0u32..).map(Value::from)).collect();
    let added = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "special": false, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    };
    let replace =
        |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [added(261, "\n"), added(262, "\u{2581}\u{2581}"), added(263, "<b>")],
        "normalizer": replace(" ", "\u{2581}"),
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
        },
        "post_processor": null,
        "decoder": {
            "type": "Sequence",
            "decoders": [replace("\u{2581}", " "), {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": [["\u{2581}", "\u{2581}"], ["\u{2581}", "a"]],
        },
    });
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let (tokenizer, text) = (latent_briefing::model::Tokenizer::load(folder.path()).unwrap(), "a  a\n<b> a");
    let ids = tokenizer.encode_text(text).unwrap();
    assert_eq!(ids, [257, 262, 257, 261, 258, 259, 260, 264]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert_eq!(tokenizer.encode_template(text).unwrap(), [257, 262, 257, 261, 263, 264]);
}
