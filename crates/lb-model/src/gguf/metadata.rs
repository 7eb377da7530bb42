//! What a written file says beside its weights.

use serde_json::Value as Json;

use super::GgufFormat;
use super::tokenizer::{Pre, kind};
use super::value::Type;
use crate::checkpoint::Source;
use crate::config::{eos_ids, read_json, unsupported};
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

    fn number(&mut self, key: &str, number: u32) {
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
    tokenizer(&mut out, checkpoint.source(), config)?;
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
    scaling(out, config, key)
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

/// The vocabulary of a byte-level tokenizer.json, with the rows of the embedding that have no token marked as unused.
fn tokenizer(out: &mut Metadata, source: &Source, config: &ModelConfig) -> Result<()> {
    let path = source.path("tokenizer.json");
    let json: Json = read_json(&source.require("tokenizer.json")?, &path)?;
    let pre = Pre::of(&json);
    let byte_level = json["model"]["type"] == "BPE" && json["decoder"]["type"] == "ByteLevel";
    if !byte_level {
        return Err(unsupported("model.type", &json["model"]["type"], "only byte-level BPE is written"));
    }
    let mut tokens: Vec<(String, u8)> =
        (0..config.vocab_size).map(|id| (format!("[PAD{id}]"), kind::UNUSED)).collect();
    let mut set = |id: Option<u64>, text: &str, kind: u8| {
        let place = id.and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get_mut(id));
        let reason = || format!("the token {text:?} has no row of the embedding");
        *place.ok_or_else(|| Error::Tokenizer { reason: reason() })? = (text.to_owned(), kind);
        Ok::<(), Error>(())
    };
    for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        set(id.as_u64(), text, kind::NORMAL)?;
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let kind = if token["special"] == true { kind::CONTROL } else { kind::USER_DEFINED };
        set(token["id"].as_u64(), token["content"].as_str().unwrap_or_default(), kind)?;
    }
    let pair = |merge: &Json| match merge {
        Json::Array(pair) => pair.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" "),
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let merges: Vec<String> = json["model"]["merges"].as_array().into_iter().flatten().map(pair).collect();
    out.text("tokenizer.ggml.model", "gpt2");
    match pre {
        Some(pre) => out.text("tokenizer.ggml.pre", pre.names[0]),
        // Without a name for how it splits text, other readers warn and guess; the whole tokenizer tells.
        None => out.text("tokenizer.huggingface.json", &json.to_string()),
    }
    out.texts("tokenizer.ggml.tokens", tokens.iter().map(|(text, _)| text.as_str()));
    out.list("tokenizer.ggml.token_type", Type::I32, tokens.len());
    out.bytes.extend(tokens.iter().flat_map(|(_, kind)| i32::from(*kind).to_le_bytes()));
    out.texts("tokenizer.ggml.merges", merges.iter().map(String::as_str));
    special(out, source, &tokens)
}

/// Ids with a meaning, from the small files beside the tokenizer.
fn special(out: &mut Metadata, source: &Source, tokens: &[(String, u8)]) -> Result<()> {
    let config = source.json("tokenizer_config.json")?.unwrap_or_default();
    let model = source.json("config.json")?.unwrap_or_default();
    let id = |name: &str| -> Result<Option<u32>> {
        let value = config.get(&format!("{name}_token"));
        let text = value.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
        let found = text.and_then(|text| tokens.iter().position(|(token, _)| token == text));
        let given = eos_ids(model.get(&format!("{name}_token_id")), &source.path("config.json"))?;
        Ok(found.and_then(|id| u32::try_from(id).ok()).or_else(|| given.first().copied()))
    };
    for (name, key) in [("bos", "bos_token_id"), ("eos", "eos_token_id"), ("pad", "padding_token_id")] {
        if let Some(id) = id(name)? {
            out.number(&format!("tokenizer.ggml.{key}"), id);
        }
    }
    out.flag("tokenizer.ggml.add_bos_token", config.get("add_bos_token") == Some(&Json::from(true)));
    Ok(())
}
