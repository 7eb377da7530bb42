//! Checkpoints with a shape's layers, random weights and a vocabulary that costs nothing.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::serialize_to_file;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::noise::{Noise, by_rows};
use super::shape::Shape;
use crate::error::{Error, Result, write_file};

/// Tokens: the 256 bytes and one control token, rounded up.
pub const VOCAB: usize = 320;
/// The control token behind the bytes.
const END: &str = "<|im_end|>";
/// The largest checkpoint that is made.
const MOST_BYTES: f64 = (16u64 << 30) as f64;
/// Standard deviation of the weights, that of an untrained model.
const STD: f32 = 0.02;

/// A Qwen3 checkpoint in the Hugging Face layout, in a folder that goes with the value.
///
/// `tools/random-checkpoint` makes whole ones with a real vocabulary.
#[derive(Debug)]
pub struct RandomCheckpoint {
    folder: TempDir,
}

impl RandomCheckpoint {
    /// Writes `layers` layers of `shape` in `dtype` (f32, bf16 or f16), for `positions` positions.
    ///
    /// # Errors
    /// [`Error::Config`] for another dtype, no layers and weights above 16 GiB; [`Error::Io`] for a folder of temporary
    /// files that cannot be written to.
    pub fn write(shape: &Shape, layers: usize, dtype: DType, positions: usize) -> Result<Self> {
        if layers == 0 || layers > shape.layers {
            return Err(Error::config("layers", layers, "must be at least 1 and at most those of the shape"));
        }
        // The linear maps; all else is small beside them.
        let bytes = shape.linear_flops() / 2.0 * (layers * dtype.size_in_bytes()) as f64;
        if bytes > MOST_BYTES {
            return Err(Error::config("shape", shape, "more than 16 GiB of weights; use fewer layers"));
        }
        let temporary = |source| Error::Io { path: std::env::temp_dir(), source };
        let checkpoint =
            Self { folder: tempfile::Builder::new().prefix("lb-random-").tempdir().map_err(temporary)? };
        let json = |name: &str, value: &Value| {
            write_file(&checkpoint.path().join(name), value.to_string().as_bytes())
        };
        json("config.json", &config(shape, layers, dtype, positions))?;
        json("tokenizer.json", &tokenizer())?;
        json("tokenizer_config.json", &json!({ "eos_token": END }))?;
        write_file(&checkpoint.path().join("chat_template.jinja"), CHAT_TEMPLATE.as_bytes())?;
        let file = checkpoint.path().join("model.safetensors");
        let io = |error: safetensors::SafeTensorError| Error::Io {
            path: file.clone(),
            source: std::io::Error::other(error),
        };
        serialize_to_file(tensors(shape, layers, dtype)?, None, &file).map_err(io)?;
        Ok(checkpoint)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}";

fn config(shape: &Shape, layers: usize, dtype: DType, positions: usize) -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": VOCAB,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": shape.query_heads(),
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": positions.max(1),
        "max_window_layers": layers,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": true,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "use_sliding_window": false,
        "sliding_window": null,
        "eos_token_id": 256,
        "torch_dtype": match dtype { DType::BF16 => "bfloat16", DType::F16 => "float16", _ => "float32" },
    })
}

/// A byte-level BPE tokenizer without merges.
fn tokenizer() -> Value {
    let vocab: HashMap<String, usize> =
        (0..=255u8).map(|byte| (byte_symbol(byte).to_string(), usize::from(byte))).collect();
    let end = json!({
        "id": 256, "content": END, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [end],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    })
}

/// GPT-2's printable stand-in for a byte: itself where it is printable, else the next free letter from 256 on.
fn byte_symbol(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !printable(*other)).count() as u32;
    char::from_u32(256 + before).unwrap_or('?')
}

/// Names and shapes as transformers has them.
fn tensors(shape: &Shape, layers: usize, dtype: DType) -> Result<Vec<(String, Tensor)>> {
    let Shape { hidden, intermediate, head_dim, .. } = *shape;
    let (queries, keys) = (shape.query_heads() * head_dim, shape.kv_heads * head_dim);
    let mut tensors = Vec::new();
    let mut add = |name: String, dims: &[usize]| -> Result<()> {
        let noise = Noise::new(tensors.len() as u64);
        let (mean, std) = if name.ends_with("norm.weight") { (1.0, 0.1) } else { (0.0, STD) };
        let width = dims[dims.len() - 1];
        let tensor = by_rows(dims, dtype, &Device::Cpu, |row, out| {
            for (index, out) in out.iter_mut().enumerate() {
                *out = mean + std * noise.normal(row * width + index);
            }
        })?;
        tensors.push((name, tensor));
        Ok(())
    };
    add("model.embed_tokens.weight".to_owned(), &[VOCAB, hidden])?;
    for layer in 0..layers {
        let parts: [(&str, &[usize]); 11] = [
            ("input_layernorm", &[hidden]),
            ("self_attn.q_proj", &[queries, hidden]),
            ("self_attn.k_proj", &[keys, hidden]),
            ("self_attn.v_proj", &[keys, hidden]),
            ("self_attn.o_proj", &[hidden, queries]),
            ("self_attn.q_norm", &[head_dim]),
            ("self_attn.k_norm", &[head_dim]),
            ("post_attention_layernorm", &[hidden]),
            ("mlp.gate_proj", &[intermediate, hidden]),
            ("mlp.up_proj", &[intermediate, hidden]),
            ("mlp.down_proj", &[hidden, intermediate]),
        ];
        for (name, dims) in parts {
            add(format!("model.layers.{layer}.{name}.weight"), dims)?;
        }
    }
    add("model.norm.weight".to_owned(), &[hidden])?;
    Ok(tensors)
}
