//! Checkpoints that are wrong in one way each.

use std::fs;

use candle_core::{DType, Device, Tensor};
use lb_model::{Checkpoint, Error, Worker};
use serde_json::{Value, json};

use crate::support::assert_error;
use crate::support::checkpoints::{Copy, GROUPED, TIED, golden, prompt, worker};
use crate::support::compare::{assert_close, assert_same, flat};

const WEIGHTS: &str = "model.safetensors";
const Q_PROJ: &str = "model.layers.1.self_attn.q_proj.weight";

fn spoilt_config(edit: impl FnOnce(&mut Value)) -> Error {
    let copy = Copy::of(TIED);
    copy.edit_json("config.json", edit);
    copy.error()
}

#[test]
fn missing_files_are_named() {
    assert_error!(Worker::load("/no/such/folder").unwrap_err(), Error::Io { .. }, "/no/such/folder");
    for file in ["config.json", "tokenizer.json", WEIGHTS] {
        let copy = Copy::of(TIED);
        fs::remove_file(copy.file(file)).unwrap();
        assert_error!(copy.error(), Error::Io { .. }, file);
    }
    let copy = Copy::of(GROUPED);
    fs::remove_file(copy.file("model-00002-of-00003.safetensors")).unwrap();
    assert_error!(copy.error(), Error::Io { .. }, "model-00002-of-00003.safetensors");
    let copy = Copy::of(TIED);
    fs::remove_file(copy.file("chat_template.jinja")).unwrap();
    // generation_config.json is optional, and the template may live in tokenizer_config.json.
    let template = fs::read_to_string(golden(TIED).join("chat_template.jinja")).unwrap();
    copy.edit_json("tokenizer_config.json", |c| c["chat_template"] = template.into());
    fs::remove_file(copy.file("generation_config.json")).unwrap();
    assert_eq!(copy.load().template().unwrap().source(), worker(TIED).template().unwrap().source());
}

#[test]
fn malformed_json_is_named() {
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let copy = Copy::of(TIED);
        fs::write(copy.file(file), "{\"a\": ").unwrap();
        assert_error!(copy.error(), Error::Json { .. }, file, "line 1");
    }
    assert_error!(spoilt_config(|c| c["hidden_size"] = "wide".into()), Error::Json { .. }, "config.json");
    let copy = Copy::of(TIED);
    copy.edit_json("tokenizer.json", |t| t["model"]["vocab"] = 3.into());
    assert_error!(copy.error(), Error::UnsupportedConfig { .. }, "model.vocab");
    let copy = Copy::of(TIED);
    copy.edit_json("tokenizer.json", |t| t["decoder"]["type"] = "Metaspace".into());
    assert_error!(copy.error(), Error::UnsupportedConfig { .. }, "decoder.type", "Metaspace");
}

#[test]
fn unsupported_configurations_are_named() {
    let cases = [
        ("model_type", json!("gemma3")),
        ("architectures", json!(["Qwen3MoeForCausalLM"])),
        ("mlp_bias", json!(true)),
        ("hidden_act", json!("gelu")),
        ("rope_parameters", json!({"rope_type": "dynamic", "rope_theta": 1e4, "alpha": 1000.0})),
        ("layer_types", json!(["full_attention", "sliding_attention", "full_attention"])),
        ("quantization_config", json!({"bits": 4})),
        ("num_experts", json!(8)),
        ("rope_parameters", json!({"rope_type": "longrope", "rope_theta": 1e4})),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4, "partial_rotary_factor": 0.5})),
        ("rope_parameters", json!({"full_attention": {"rope_type": "default", "rope_theta": 1e4}})),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
    ];
    for (field, value) in cases {
        let error = spoilt_config(|c| c[field] = value);
        assert_error!(error, Error::UnsupportedConfig { .. }, field);
    }
    for field in ["model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"] {
        let error = spoilt_config(|c| {
            c.as_object_mut().unwrap().remove(field);
        });
        assert_error!(error, Error::MissingField { .. }, field, "config.json");
    }
    let cases = [
        ("num_key_value_heads", json!(3), "num_attention_heads"),
        ("head_dim", json!(15), "head_dim"),
        ("num_hidden_layers", json!(0), "num_hidden_layers"),
        ("rms_norm_eps", json!(0.0), "rms_norm_eps"),
    ];
    for (field, value, named) in cases {
        assert_error!(spoilt_config(|c| c[field] = value), Error::Config { .. }, named);
    }
}

/// The layout of transformers 4: `rope_theta` at the top, `torch_dtype`, no `layer_types`.
#[test]
fn the_older_configuration_layout_reads_the_same() {
    let copy = Copy::of(TIED);
    copy.edit_json("config.json", |c| {
        let fields = c.as_object_mut().unwrap();
        fields.remove("rope_parameters");
        fields.remove("layer_types");
        fields.remove("dtype");
        fields.insert("rope_theta".into(), 10000.0.into());
        fields.insert("rope_scaling".into(), Value::Null);
        fields.insert("torch_dtype".into(), "float32".into());
        fields.insert("eos_token_id".into(), json!([302, 300]));
    });
    let (old, new) = (copy.load(), worker(TIED));
    assert_eq!(old.config().rope_theta.to_bits(), new.config().rope_theta.to_bits());
    assert_eq!(old.config().eos_token_ids, [300, 302]);
    let tokens = prompt(TIED);
    let logits = |w: &Worker| w.model().forward(&tokens, &mut w.model().new_cache()).unwrap();
    assert_same(&logits(&old), &logits(&new));
}

#[test]
fn wrong_tensors_are_named() {
    let spoilt = |edit: &dyn Fn(&Tensor) -> Tensor| {
        let copy = Copy::of(TIED);
        copy.edit_tensors(|t| {
            let changed = edit(&t[Q_PROJ]);
            t.insert(Q_PROJ.into(), changed);
        });
        copy.error()
    };
    let error = spoilt(&|t| t.narrow(0, 0, 60).unwrap().contiguous().unwrap());
    assert_error!(error, Error::TensorShape { .. }, Q_PROJ, "[60, 48]", "[64, 48]", WEIGHTS);
    assert_error!(
        spoilt(&|t| t.to_dtype(DType::I64).unwrap()),
        Error::TensorDtype { .. },
        Q_PROJ,
        "I64",
        WEIGHTS
    );
    for bad in [f64::NAN, f64::INFINITY] {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let one_bad = |t: &Tensor| {
                let mut values = flat(t);
                values[77] = bad;
                Tensor::from_vec(values, t.dims(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
            };
            assert_error!(spoilt(&one_bad), Error::NonFinite { .. }, Q_PROJ, WEIGHTS);
        }
    }
    let copy = Copy::of(TIED);
    copy.edit_tensors(|t| drop(t.remove(Q_PROJ)));
    assert_error!(copy.error(), Error::MissingTensor { .. }, Q_PROJ, WEIGHTS);
    let copy = Copy::of(TIED);
    copy.edit_tensors(|t| {
        let head = t["model.embed_tokens.weight"].clone();
        t.insert("lm_head.weight".into(), head.clone());
        t.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), head.clone());
    });
    copy.load();
    copy.edit_tensors(|t| drop(t.insert("model.layers.3.mlp.up_proj.weight".into(), t[Q_PROJ].clone())));
    assert_error!(copy.error(), Error::UnexpectedTensors { .. }, "model.layers.3.mlp.up_proj.weight");
    let copy = Copy::of(GROUPED);
    copy.edit_json("config.json", |c| c["tie_word_embeddings"] = true.into());
    copy.load();
    let copy = Copy::of(TIED);
    copy.edit_json("config.json", |c| c["tie_word_embeddings"] = false.into());
    assert_error!(copy.error(), Error::MissingTensor { .. }, "lm_head.weight");
}

#[test]
fn truncated_and_inconsistent_files_are_corrupt() {
    let bytes = fs::read(golden(TIED).join(WEIGHTS)).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let copy = Copy::of(TIED);
    for len in [0, 5, 8, 8 + header / 2, 8 + header, bytes.len() / 2, bytes.len() - 1] {
        fs::write(copy.file(WEIGHTS), &bytes[..len]).unwrap();
        assert_error!(copy.error(), Error::Corrupt { .. }, WEIGHTS);
    }
    fs::write(copy.file(WEIGHTS), [&bytes[..], &[0; 4]].concat()).unwrap();
    assert_error!(copy.error(), Error::Corrupt { .. }, WEIGHTS, "data bytes");
    let mut garbage = bytes.clone();
    garbage[8..16].fill(b'x');
    fs::write(copy.file(WEIGHTS), garbage).unwrap();
    assert_error!(copy.error(), Error::Corrupt { .. }, WEIGHTS, "header");
    // A shape that does not fit its bytes, as long as before so that all else stays in place.
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    assert!(text.contains("[64,48]"));
    let text = text.replacen("[64,48]", "[64,47]", 1);
    fs::write(copy.file(WEIGHTS), [&bytes[..8], text.as_bytes(), &bytes[8 + header..]].concat()).unwrap();
    assert_error!(copy.error(), Error::Corrupt { .. }, "[64, 47]");
}

#[test]
fn shards_are_checked() {
    let index = "model.safetensors.index.json";
    let copy = Copy::of(GROUPED);
    copy.edit_json(index, |i| i["weight_map"]["model.norm.weight"] = "../elsewhere.safetensors".into());
    assert_error!(copy.error(), Error::Corrupt { .. }, "../elsewhere.safetensors");
    let copy = Copy::of(GROUPED);
    copy.edit_json(index, |i| {
        i["weight_map"]["model.extra.weight"] = "model-00001-of-00003.safetensors".into();
    });
    assert_error!(copy.error(), Error::MissingTensor { .. }, "model.extra.weight", "model-00001-of-00003");
}

#[test]
fn dtypes_of_loading() {
    let load = |dtype| Checkpoint::dir(golden(GROUPED)).unwrap().load(&Device::Cpu, dtype);
    assert_error!(load(Some(DType::F64)).unwrap_err(), Error::Config { field: "dtype", .. }, "f64");
    let (wide, half) = (load(Some(DType::F32)).unwrap(), load(Some(DType::F16)).unwrap());
    assert_eq!(
        (wide.dtype(), half.dtype(), half.model().new_cache().dtype()),
        (DType::F32, DType::F16, DType::F16)
    );
    let tokens = prompt(GROUPED);
    let logits = |w: &Worker| w.model().forward(&tokens, &mut w.model().new_cache()).unwrap();
    assert_eq!(logits(&half).dtype(), DType::F32);
    assert_close(&flat(&logits(&half)), &flat(&logits(&wide)), 0.1);
}

#[test]
fn a_file_of_the_folder_names_it_and_the_built_in_worker_loads() {
    let worker = Worker::load(golden(TIED).join("config.json")).unwrap();
    assert_eq!((worker.name(), worker.clone().config().head_dim), (TIED, 16));
    {
        let worker = Worker::embedded().unwrap();
        assert_eq!((worker.name(), worker.config().num_key_value_heads), ("embedded", 3));
        let parts = worker.template().unwrap().split(None, false).unwrap();
        let tokens =
            worker.tokenizer().encode_template(&format!("{}Who?{}", parts.head, parts.tail)).unwrap();
        let logits = worker.model().forward(&tokens, &mut worker.model().new_cache()).unwrap();
        assert_eq!(logits.dims(), [worker.config().vocab_size]);
    }
}

/// A list of named templates gives the one called default.
#[test]
fn the_default_of_several_templates_is_taken() {
    let copy = Copy::of(TIED);
    std::fs::remove_file(copy.file("chat_template.jinja")).unwrap();
    copy.edit_json("tokenizer_config.json", |config| {
        config["chat_template"] = serde_json::json!([
            {"name": "tool_use", "template": "tools"},
            {"name": "default", "template": "{{ eos_token }}{{ messages[0].content }}"},
        ]);
    });
    let parts = copy.load().template().unwrap().split(None, true).unwrap();
    assert_eq!(parts.head, "<|im_end|>", "the special tokens reach the template");
}
