//! A tokenizer.json as the metadata of a file.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pre::Pre;
use super::same::{around, merge_parts, same, steps};
use super::{HF_JSON, MERGES, MODEL, PRE_KEY, SCORES, TOKENS, TYPES, kind};
use crate::checkpoint::Origin;
use crate::config::{eos_ids, read_json};
use crate::gguf::Gguf;
use crate::gguf::metadata::Metadata;
use crate::gguf::value::Type;
use crate::{ModelConfig, Result};

/// Piece of a vocabulary without a merge that makes it: joined last.
const LAST: f32 = -1e9;

/// The tokens of the file: texts and kinds, one for every row of the embedding.
type Tokens = Vec<(String, u8)>;

/// Everything about the tokenizer. Where what is written cannot be read back as the same tokenizer (other readers see a
/// vocabulary and a name for how text is split, no more), the tokenizer.json stands beside it as a whole, and is what
/// this crate reads.
pub(in crate::gguf) fn tokenizer(source: &Origin, config: &ModelConfig) -> Result<Metadata> {
    let json: Value = read_json(&source.require("tokenizer.json")?, &source.path("tokenizer.json"))?;
    let mut out = Metadata::default();
    let mut tokens = tokens(&json, config.vocab_size);
    if is_byte_level(&json) {
        byte_level(&mut out, &json);
    } else {
        sentence_pieces(&mut out, &json, &mut tokens);
    }
    out.texts(TOKENS, tokens.iter().map(|(text, _)| text.as_str()));
    out.list(TYPES, Type::I32, tokens.len());
    out.bytes.extend(tokens.iter().flat_map(|(_, kind)| i32::from(*kind).to_le_bytes()));
    special(&mut out, source, &tokens, &json)?;
    let read = Gguf::of_metadata(&out)?.json_of_metadata();
    if !read.is_ok_and(|read| same(&read, &json)) {
        out.text(HF_JSON, &json.to_string());
    }
    Ok(out)
}

fn is_byte_level(json: &Value) -> bool {
    steps(&json["decoder"], "decoders").iter().all(|step| step["type"] == "ByteLevel")
}

/// Rows that have no token are marked as unused; tokens that have no row are left out.
fn tokens(json: &Value, rows: usize) -> Tokens {
    let mut tokens: Tokens = (0..rows).map(|id| (format!("[PAD{id}]"), kind::UNUSED)).collect();
    let mut set = |id: &Value, text: &str, kind: u8| {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get_mut(id));
        if let Some(place) = place {
            *place = (text.to_owned(), kind);
        }
    };
    for (text, id) in json["model"]["vocab"].as_object().into_iter().flatten() {
        set(id, text, kind::NORMAL);
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let kind = if token["special"] == true { kind::CONTROL } else { kind::USER_DEFINED };
        set(&token["id"], token["content"].as_str().unwrap_or_default(), kind);
    }
    tokens
}

fn byte_level(out: &mut Metadata, json: &Value) {
    let merges = json["model"]["merges"].as_array().into_iter().flatten();
    let merges: Vec<String> = merges.filter_map(merge_parts).map(|(a, b)| format!("{a} {b}")).collect();
    out.text(MODEL, "gpt2");
    if let Some(pre) = Pre::of(json) {
        out.text(PRE_KEY, pre.names[0]);
    }
    out.texts(MERGES, merges.iter().map(String::as_str));
}

/// Scores in the order of the merges: a piece is worth what the first merge that makes it is.
fn sentence_pieces(out: &mut Metadata, json: &Value, tokens: &mut Tokens) {
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    let merges = json["model"]["merges"].as_array().into_iter().flatten().filter_map(merge_parts);
    for (rank, (a, b)) in merges.enumerate() {
        ranks.entry(format!("{a}{b}")).or_insert(rank);
    }
    let unknown = json["model"]["unk_token"].as_str();
    for (text, kind) in tokens.iter_mut() {
        let is_byte = text.len() == 6 && text.starts_with("<0x");
        if Some(text.as_str()) == unknown {
            *kind = kind::UNKNOWN;
        } else if is_byte && *kind == kind::NORMAL {
            *kind = kind::BYTE;
        }
    }
    out.text(MODEL, "llama");
    let prepends = steps(&json["normalizer"], "normalizers").iter().any(|step| step["type"] == "Prepend");
    let metaspace =
        steps(&json["pre_tokenizer"], "pretokenizers").into_iter().find(|s| s["type"] == "Metaspace");
    let prefix = metaspace
        .map_or(prepends, |step| step["prepend_scheme"] != "never" && step["add_prefix_space"] != false);
    out.flag("tokenizer.ggml.add_space_prefix", prefix);
    out.list(SCORES, Type::F32, tokens.len());
    let score = |text: &str| ranks.get(text).map_or(LAST, |rank| -(*rank as f32));
    out.bytes.extend(tokens.iter().flat_map(|(text, _)| score(text).to_le_bytes()));
}

/// Ids with a meaning, from the small files beside the tokenizer, and what a prompt begins and ends with.
fn special(out: &mut Metadata, source: &Origin, tokens: &Tokens, json: &Value) -> Result<()> {
    let config = source.json("tokenizer_config.json")?.unwrap_or_default();
    let model = source.json("config.json")?.unwrap_or_default();
    let [before, behind] = around(&json["post_processor"]).unwrap_or_default();
    let id = |name: &str| -> Result<Option<u32>> {
        let value = config.get(&format!("{name}_token"));
        let text = value.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
        let found = text.and_then(|text| tokens.iter().position(|(token, _)| token == text));
        let given = eos_ids(model.get(&format!("{name}_token_id")), &source.path("config.json"))?;
        let used =
            if name == "bos" { &before } else { &behind }.first().and_then(|id| u32::try_from(*id).ok());
        let used = used.filter(|_| matches!(name, "bos" | "eos"));
        Ok(used.or_else(|| found.and_then(|id| u32::try_from(id).ok())).or_else(|| given.first().copied()))
    };
    let keys = [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")];
    for (name, key) in keys {
        if let Some(id) = id(name)?.filter(|id| (*id as usize) < tokens.len()) {
            out.number(&format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    out.flag("tokenizer.ggml.add_bos_token", !before.is_empty());
    out.flag("tokenizer.ggml.add_eos_token", !behind.is_empty());
    Ok(())
}
