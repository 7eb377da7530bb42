//! Whether two tokenizer.json give every text the same tokens.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pre::{DIGIT, DIGITS, GPT2};
use crate::tokenizer::lacks_bytes;
pub(super) use crate::tokenizer::merge_parts;

/// Whether they do, as far as can be told from what they say; a component that is not known here makes them differ.
pub(in crate::gguf) fn same(a: &Value, b: &Value) -> bool {
    matches!((canonical(a), canonical(b)), (Some(a), Some(b)) if a == b)
}

/// All that decides about tokens, in one form.
fn canonical(tokenizer: &Value) -> Option<Value> {
    let model = &tokenizer["model"];
    let mut vocab: BTreeMap<&str, u64> = BTreeMap::new();
    for (token, id) in model["vocab"].as_object()? {
        vocab.insert(token, id.as_u64()?);
    }
    let added = tokenizer["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    for token in added {
        vocab.insert(token["content"].as_str()?, token["id"].as_u64()?);
    }
    let merges = model["merges"].as_array()?.iter().filter_map(merge_parts).collect::<Vec<_>>();
    let flags = ["fuse_unk", "byte_fallback", "ignore_merges"].map(|name| model[name] == true);
    let mut added = added.to_vec();
    added.sort_by_key(|token| token["id"].as_u64());
    Some(json!({
        "vocab": vocab,
        "merges": merges,
        "added": added,
        // It comes up where a byte has no token.
        "unknown": if lacks_bytes(tokenizer) { &model["unk_token"] } else { &Value::Null },
        "flags": flags,
        "normalizer": steps(&tokenizer["normalizer"], "normalizers"),
        "split": splits(&tokenizer["pre_tokenizer"])?,
        "decoder": decoder(&tokenizer["decoder"]),
        "around": around(&tokenizer["post_processor"])?,
    }))
}

/// The steps of a component, sequences within it resolved.
pub(super) fn steps(component: &Value, list: &str) -> Vec<Value> {
    match component["type"].as_str() {
        None => Vec::new(),
        Some("Sequence") => {
            component[list].as_array().into_iter().flatten().flat_map(|step| steps(step, list)).collect()
        }
        Some(_) => vec![component.clone()],
    }
}

/// What a pre-tokenizer does, step by step: patterns that isolate what they match, and the change to the alphabet of
/// bytes. `None` for a step that is not known.
pub(super) fn splits(pre_tokenizer: &Value) -> Option<Vec<Value>> {
    let split = |pattern: &str| json!(pattern.replace('\r', "\\r").replace('\n', "\\n"));
    let bytes = json!({"bytes": true});
    let mut all = Vec::new();
    for step in steps(pre_tokenizer, "pretokenizers") {
        let isolated = step["behavior"] == "Isolated" && step["invert"] != true;
        match (step["type"].as_str()?, step["pattern"]["Regex"].as_str()) {
            // Its pattern is used unless the file says otherwise.
            ("ByteLevel", _) if step["use_regex"] != false => all.extend([split(GPT2), bytes.clone()]),
            ("ByteLevel", _) => all.push(bytes.clone()),
            ("Split", Some(pattern)) if isolated => all.push(split(pattern)),
            ("Digits", _) if step["individual_digits"] == true => all.push(split(DIGIT)),
            ("Digits", _) => all.push(split(DIGITS)),
            ("Metaspace", _) => all.push(step),
            // With SentencePiece's normalizer, which leaves no space (Gemma); a file with another one is not read.
            ("Split", None) if step["pattern"]["String"] == " " => {}
            _ => return None,
        }
    }
    Some(all)
}

/// Options of the byte-level decoder do nothing.
fn decoder(decoder: &Value) -> Vec<Value> {
    let mut steps = steps(decoder, "decoders");
    for step in steps.iter_mut().filter(|step| step["type"] == "ByteLevel") {
        *step = json!({"type": "ByteLevel"});
    }
    steps
}

/// Ids before and behind a text.
pub(super) fn around(processor: &Value) -> Option<[Vec<u64>; 2]> {
    let mut around = [Vec::new(), Vec::new()];
    for step in steps(processor, "processors") {
        match step["type"].as_str()? {
            "ByteLevel" => continue,
            "TemplateProcessing" => {}
            _ => return None,
        }
        around = [Vec::new(), Vec::new()];
        let mut side = 0;
        for piece in step["single"].as_array()? {
            let Some(name) = piece["SpecialToken"]["id"].as_str() else {
                side = 1;
                continue;
            };
            for id in step["special_tokens"][name]["ids"].as_array()? {
                around[side].push(id.as_u64()?);
            }
        }
    }
    Some(around)
}
