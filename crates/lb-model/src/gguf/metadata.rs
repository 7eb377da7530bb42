//! What a written file says beside its weights.

use serde_json::Value as Json;

use super::value::Type;
use super::{GgufFormat, tokenizer};
use crate::config::{LocalAttention, Window, unsupported};
use crate::{Checkpoint, Error, ModelConfig, Result, RopeScaling};

/// Keys and values in the file's own bytes.
#[derive(Default)]
pub(super) struct Metadata {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

pub(super) fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Metadata {
    fn key(&mut self, key: &str, kind: Type) {
        push_text(&mut self.bytes, key);
        self.bytes.extend(kind.number().to_le_bytes());
        self.count += 1;
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key, Type::Text);
        push_text(&mut self.bytes, text);
    }

    pub(super) fn number(&mut self, key: &str, number: u32) {
        self.key(key, Type::U32);
        self.bytes.extend(number.to_le_bytes());
    }

    fn size(&mut self, key: &str, number: usize) -> Result<()> {
        let number = u32::try_from(number).map_err(|_| too_large(key, number))?;
        self.number(key, number);
        Ok(())
    }

    fn float(&mut self, key: &str, number: f64) {
        self.key(key, Type::F32);
        self.bytes.extend((number as f32).to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, flag: bool) {
        self.key(key, Type::Bool);
        self.bytes.push(u8::from(flag));
    }

    pub(super) fn list(&mut self, key: &str, kind: Type, count: usize) {
        self.key(key, Type::Array);
        self.bytes.extend(kind.number().to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    pub(super) fn append(&mut self, other: Self) {
        self.bytes.extend(other.bytes);
        self.count += other.count;
    }

    pub(super) fn texts<'a>(&mut self, key: &str, texts: impl ExactSizeIterator<Item = &'a str>) {
        self.list(key, Type::Text, texts.len());
        texts.for_each(|text| push_text(&mut self.bytes, text));
    }
}

fn too_large(field: &str, value: usize) -> Error {
    unsupported(field, &Json::from(value), "more than a GGUF file holds")
}

/// Everything but the weights.
pub(super) fn metadata(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    name: &str,
    format: GgufFormat,
) -> Result<Metadata> {
    let mut out = Metadata::default();
    out.text("general.architecture", config.family.spec().gguf);
    out.text("general.name", name);
    out.number("general.file_type", format.file_type());
    out.number("general.quantization_version", 2);
    shape(&mut out, config)?;
    out.append(tokenizer::write(checkpoint.source(), config)?);
    // A base model has none.
    if let Some(template) = checkpoint.chat_template()? {
        out.text("tokenizer.chat_template", template.source());
    }
    Ok(out)
}

fn shape(out: &mut Metadata, config: &ModelConfig) -> Result<()> {
    let key = |name: &str| format!("{}.{name}", config.family.spec().gguf);
    for (name, size) in [
        ("vocab_size", config.vocab_size),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ] {
        out.size(&key(name), size)?;
    }
    out.float(&key("attention.layer_norm_rms_epsilon"), config.rms_norm_eps);
    out.float(&key("rope.freq_base"), config.rope_theta);
    if let Some(experts) = &config.experts {
        let uniform = experts.normalised && experts.every == 1 && experts.dense_layers.is_empty();
        if !uniform {
            let reason = "GGUF files know mixtures in every layer with weights that sum up to 1";
            return Err(unsupported("norm_topk_prob", &Json::from(experts.normalised), reason));
        }
        out.size(&key("expert_count"), experts.count)?;
        out.size(&key("expert_used_count"), experts.per_token)?;
        out.size(&key("expert_feed_forward_length"), experts.intermediate_size)?;
    }
    windows(out, config, key)?;
    scaling(out, config, key)
}

/// What llama.cpp reads, and takes where a file does not say, is what must come out again.
fn windows(out: &mut Metadata, config: &ModelConfig, key: impl Fn(&str) -> String) -> Result<()> {
    let spec = config.family.spec();
    let (layers, heads) = (config.num_hidden_layers, config.num_attention_heads);
    let scale = spec.attention_scale.of_gguf(layers, config.hidden_size, heads, config.head_dim);
    if (config.attention_scale - scale).abs() > 1e-6 * scale {
        let reason = format!("GGUF files do not say it, and their readers take {scale}");
        return Err(unsupported("attention_scale", &Json::from(config.attention_scale), &reason));
    }
    let (Some(local), Window::Layers { every: usual }) = (&config.local, spec.window) else { return Ok(()) };
    let every = (1..=layers + 1).find(|every| LocalAttention::pattern(*every, layers) == local.layers);
    let Some(every) = every else {
        let reason = "GGUF files know windows in all but every so many layers";
        return Err(unsupported("layer_types", &Json::from(local.layers.clone()), reason));
    };
    out.size(&key("attention.sliding_window"), local.window)?;
    if every != usual {
        out.size(&key("attention.sliding_window_pattern"), every)?;
    }
    out.float(&key("rope.freq_base_swa"), local.rope_theta);
    Ok(())
}

fn scaling(out: &mut Metadata, config: &ModelConfig, key: impl Fn(&str) -> String) -> Result<()> {
    match &config.rope_scaling {
        // Factors are a tensor.
        RopeScaling::Default | RopeScaling::Llama3 { .. } | RopeScaling::Factors { .. } => {}
        RopeScaling::Linear { factor } => {
            out.text(&key("rope.scaling.type"), "linear");
            out.float(&key("rope.scaling.factor"), *factor);
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            attention_factor,
            truncate,
            original_positions,
        } => {
            let usual = if *factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
            if !truncate || (attention_factor - usual).abs() > 1e-6 {
                let (field, value) = ("rope_scaling.attention_factor", Json::from(*attention_factor));
                return Err(unsupported(field, &value, "only the usual YaRN with whole dimensions"));
            }
            out.text(&key("rope.scaling.type"), "yarn");
            out.float(&key("rope.scaling.factor"), *factor);
            out.float(&key("rope.scaling.yarn_beta_fast"), *beta_fast);
            out.float(&key("rope.scaling.yarn_beta_slow"), *beta_slow);
            out.size(&key("rope.scaling.original_context_length"), *original_positions)?;
        }
    }
    Ok(())
}
