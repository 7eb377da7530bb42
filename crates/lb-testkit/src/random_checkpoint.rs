//! Small checkpoints of every family with random weights, whose rows are whole blocks of 32 or of 256.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::caches::{noise, rng};
use super::checkpoints::{TIED, golden};

/// `model_type` of what [`Random`] makes.
pub const FAMILIES: [&str; 5] = ["qwen3", "qwen3_moe", "qwen2", "llama", "mistral"];

const EXPERTS: usize = 4;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const VOCAB: usize = 448;
const LAYERS: usize = 2;

#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    inner: usize,
    expert: usize,
    head_dim: usize,
}

const SMALL: Sizes = Sizes { hidden: 64, inner: 96, expert: 32, head_dim: 32 };
const WIDE: Sizes = Sizes { hidden: 256, inner: 512, expert: 256, head_dim: 64 };

/// A folder that goes with the value.
pub struct Random(TempDir);

impl Random {
    /// Rows of whole blocks of 32.
    pub fn of(family: &str) -> Self {
        Self::sized(family, SMALL)
    }

    /// Rows of whole blocks of 256.
    pub fn wide(family: &str) -> Self {
        Self::sized(family, WIDE)
    }

    fn sized(family: &str, sizes: Sizes) -> Self {
        let folder = TempDir::new().unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            fs::copy(golden(TIED).join(file), folder.path().join(file)).unwrap();
        }
        fs::write(folder.path().join("config.json"), config(family, sizes).to_string()).unwrap();
        candle_core::safetensors::save(&tensors(family, sizes), folder.path().join("model.safetensors"))
            .unwrap();
        Self(folder)
    }

    /// The checkpoint's folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

fn config(family: &str, sizes: Sizes) -> Value {
    let mut config = json!({
        "model_type": family,
        "vocab_size": VOCAB,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inner,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": sizes.head_dim,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "max_position_embeddings": 512,
        "tie_word_embeddings": family == "qwen2",
        "hidden_act": "silu",
    });
    match family {
        "qwen3_moe" => {
            config["num_experts"] = EXPERTS.into();
            config["num_experts_per_tok"] = 2.into();
            config["moe_intermediate_size"] = sizes.expert.into();
            config["norm_topk_prob"] = true.into();
        }
        "llama" => {
            config["attention_bias"] = true.into();
            config["rope_scaling"] = json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            });
        }
        _ => {}
    }
    config
}

/// Names and shapes as transformers has them.
fn tensors(family: &str, sizes: Sizes) -> HashMap<String, Tensor> {
    let Sizes { hidden, inner, expert, head_dim } = sizes;
    let mut rng = rng(11);
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize], mean: f64| {
        let (rows, columns) = if let [rows, columns] = *shape { (rows, columns) } else { (1, shape[0]) };
        let scale = if shape.len() == 2 { 1.0 / (columns as f32).sqrt() } else { 0.2 };
        let values = (noise(&mut rng, (1, rows, columns), scale) + mean).unwrap();
        tensors.insert(name, values.reshape(shape).unwrap().to_device(&Device::Cpu).unwrap());
    };
    add("model.embed_tokens.weight".into(), &[VOCAB, hidden], 0.0);
    add("model.norm.weight".into(), &[hidden], 1.0);
    if family != "qwen2" {
        add("lm_head.weight".into(), &[VOCAB, hidden], 0.0);
    }
    for layer in 0..LAYERS {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(at(&format!("{norm}.weight")), &[hidden], 1.0);
        }
        let (queries, keys) = (HEADS * head_dim, KV_HEADS * head_dim);
        let projections =
            [("q", queries, hidden), ("k", keys, hidden), ("v", keys, hidden), ("o", hidden, queries)];
        for (name, rows, columns) in projections {
            add(at(&format!("self_attn.{name}_proj.weight")), &[rows, columns], 0.0);
            if family == "llama" || (family == "qwen2" && name != "o") {
                add(at(&format!("self_attn.{name}_proj.bias")), &[rows], 0.0);
            }
        }
        if family.starts_with("qwen3") {
            add(at("self_attn.q_norm.weight"), &[head_dim], 1.0);
            add(at("self_attn.k_norm.weight"), &[head_dim], 1.0);
        }
        let mut mlp = |prefix: String, inner: usize| {
            add(format!("{prefix}gate_proj.weight"), &[inner, hidden], 0.0);
            add(format!("{prefix}up_proj.weight"), &[inner, hidden], 0.0);
            add(format!("{prefix}down_proj.weight"), &[hidden, inner], 0.0);
        };
        if family == "qwen3_moe" {
            (0..EXPERTS).for_each(|e| mlp(at(&format!("mlp.experts.{e}.")), expert));
            add(at("mlp.gate.weight"), &[EXPERTS, hidden], 0.0);
        } else {
            mlp(at("mlp."), inner);
        }
    }
    tensors
}
