//! What must hold of `tokenizer.json` before the tokenizer library sees it. The library trusts its input: a merge of
//! tokens longer than any other, for instance, makes it panic.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::alphabet::{byte_char, fallback_token};
use super::kind::Kind;
use super::variants::{is_version_line, merge_parts};
use crate::config::unsupported;
use crate::{Error, Result};

/// Larger ids belong to no model.
const MAX_ID: u64 = 1 << 24;

/// Checks vocabulary, merges, added tokens and the fields of the model. Fields that the library does not read, it skips
/// here as there.
pub(super) fn check(file: &Value, kind: Kind) -> Result<()> {
    let model = &file["model"];
    if !model.is_object() {
        return Err(unsupported("model", model, "expected an object"));
    }
    let expect = |field: &str, ok: bool, reason: &str| {
        if ok { Ok(()) } else { Err(unsupported(&format!("model.{field}"), &model[field], reason)) }
    };
    // The first files had no types; BPE alone has merges.
    let untyped = model["type"].is_null() && model["merges"].is_array();
    expect("type", model["type"] == "BPE" || untyped, "only BPE")?;
    let no_dropout = model["dropout"].is_null() || model["dropout"].as_f64() == Some(0.0);
    expect("dropout", no_dropout, "encoding must not be random")?;
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        expect(field, model[field].is_null() || model[field] == "", "only none")?;
    }
    for field in ["fuse_unk", "byte_fallback", "ignore_merges"] {
        expect(field, model[field].is_null() || model[field].is_boolean(), "expected true or false")?;
    }
    if let Kind::SentencePiece { .. } = kind {
        // The text `<0x0A>` would be looked up as a whole, and become a line feed.
        expect("ignore_merges", model["ignore_merges"] != true, "not with byte fallback")?;
    }
    let vocab = check_vocab(model)?;
    check_merges(model, vocab)?;
    check_added(file, vocab)
}

fn check_vocab(model: &Value) -> Result<&Map<String, Value>> {
    let Some(vocab) = model["vocab"].as_object() else {
        return Err(unsupported("model.vocab", &model["vocab"], "expected tokens with their ids"));
    };
    let mut ids = HashSet::with_capacity(vocab.len());
    for (token, id) in vocab {
        let known = id.as_u64().filter(|id| *id < MAX_ID && ids.insert(*id));
        if known.is_none() {
            let field = format!("model.vocab.{token}");
            return Err(unsupported(&field, id, "expected an id below 2^24 that no other token has"));
        }
    }
    Ok(vocab)
}

/// The bytes that no token stands for.
pub(super) fn missing_bytes(file: &Value, kind: Kind) -> Vec<u8> {
    let token = |byte| match kind {
        Kind::ByteLevel => byte_char(byte).to_string(),
        Kind::SentencePiece { .. } => fallback_token(byte),
    };
    let vocab = &file["model"]["vocab"];
    (0..=u8::MAX).filter(|byte| vocab.get(token(*byte)).is_none()).collect()
}

fn check_merges(model: &Value, vocab: &Map<String, Value>) -> Result<()> {
    let Some(merges) = model["merges"].as_array() else {
        return Err(unsupported("model.merges", &model["merges"], "expected a list"));
    };
    for (index, merge) in merges.iter().enumerate().filter(|(_, merge)| !is_version_line(merge)) {
        let fits = merge_parts(merge).is_some_and(|(a, b)| {
            vocab.contains_key(a) && vocab.contains_key(b) && vocab.contains_key(&format!("{a}{b}"))
        });
        if !fits {
            let field = format!("model.merges[{index}]");
            return Err(unsupported(
                &field,
                merge,
                "expected two tokens that make a third of the vocabulary",
            ));
        }
    }
    Ok(())
}

fn check_added(file: &Value, vocab: &Map<String, Value>) -> Result<()> {
    let added = match &file["added_tokens"] {
        Value::Null => return Ok(()),
        Value::Array(added) => added,
        other => return Err(unsupported("added_tokens", other, "expected a list")),
    };
    let mut contents = HashSet::new();
    let mut ids: HashSet<u64> = vocab.values().filter_map(Value::as_u64).collect();
    for (index, token) in added.iter().enumerate() {
        let field = |name: &str| format!("added_tokens[{index}].{name}");
        let content = token["content"].as_str().unwrap_or_default();
        if content.is_empty() || !contents.insert(content) {
            let reason = "expected a text that no other added token has";
            return Err(unsupported(&field("content"), &token["content"], reason));
        }
        let id = token["id"].as_u64().filter(|id| *id < MAX_ID);
        if id.is_none_or(|id| !vocab.contains_key(content) && !ids.insert(id)) {
            let reason = "expected an id below 2^24 that no other token has";
            return Err(unsupported(&field("id"), &token["id"], reason));
        }
        for flag in ["single_word", "lstrip", "rstrip", "normalized", "special"] {
            if !token[flag].is_boolean() {
                return Err(unsupported(&field(flag), &token[flag], "expected true or false"));
            }
        }
    }
    Ok(())
}

/// The library looks added tokens up in the vocabulary first; there they must have the ids that the file gives them.
pub(super) fn check_ids(file: &Value, built: &tokenizers::Tokenizer) -> Result<()> {
    for (index, token) in file["added_tokens"].as_array().into_iter().flatten().enumerate() {
        let got = token["content"].as_str().and_then(|content| built.token_to_id(content));
        if got.map(u64::from) != token["id"].as_u64() {
            let reason = match got {
                Some(id) => format!("the vocabulary gives this token the id {id}"),
                None => "the token is not in the tokenizer".to_string(),
            };
            return Err(unsupported(&format!("added_tokens[{index}].id"), &token["id"], &reason));
        }
    }
    Ok(())
}

/// Ids that the post-processor puts before and behind a text.
pub(super) fn around(file: &Value, built: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let mut around = (Vec::new(), Vec::new());
    for step in super::kind::steps(file, "post_processor", "processors")? {
        match step["type"].as_str() {
            Some("ByteLevel") => {}
            Some("TemplateProcessing") => around = template_processing(step, built)?,
            _ => {
                let reason = "ByteLevel and TemplateProcessing are known";
                return Err(unsupported("post_processor", step, reason));
            }
        }
    }
    Ok(around)
}

fn template_processing(step: &Value, built: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let refused =
        |value: &Value, reason: &str| -> Error { unsupported("post_processor.single", value, reason) };
    let single = &step["single"];
    let pieces = single.as_array().ok_or_else(|| refused(single, "expected a list"))?;
    let (mut before, mut behind, mut seen) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        if piece["Sequence"]["id"] == "A" && !seen {
            seen = true;
            continue;
        }
        let name = piece["SpecialToken"]["id"].as_str();
        let name = name.ok_or_else(|| refused(piece, "expected a special token, or the text A once"))?;
        let ids = &step["special_tokens"][name]["ids"];
        let ids = ids.as_array().ok_or_else(|| refused(piece, "the token has no ids in special_tokens"))?;
        for id in ids {
            let known = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let known = known.filter(|id| built.id_to_token(*id).is_some());
            let id = known.ok_or_else(|| refused(id, "not an id of the vocabulary"))?;
            if seen { behind.push(id) } else { before.push(id) }
        }
    }
    if seen { Ok((before, behind)) } else { Err(refused(single, "the text A is missing")) }
}
