//! The tokenizers behind a [`Tokenizer`](super::Tokenizer), as JSON for the library.

use std::collections::HashSet;

use serde_json::Value;

/// What the unknown token is called where added tokens are text: two characters that no byte-level vocabulary has and
/// no merge makes, so that no text becomes it.
const UNKNOWN: &str = "\u{F8FE}\u{F8FF}";

/// What the library reads; it fails at other fields.
const FIELDS: [&str; 9] = [
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
];

/// The file without what only concerns whole prompts and batches. Padding and truncation are off in transformers, too,
/// unless a call asks for them. Added tokens are in the vocabulary, where the library takes their ids from; it would
/// number them itself, without holes.
pub(super) fn full(mut file: Value) -> Value {
    for field in ["post_processor", "padding", "truncation"] {
        file[field] = Value::Null;
    }
    file["version"] = "1.0".into();
    if let Some(fields) = file.as_object_mut() {
        fields.retain(|field, _| FIELDS.contains(&field.as_str()));
    }
    if let Some(model) = file["model"].as_object_mut() {
        // The library goes by the first field.
        model.shift_remove("type");
        model.shift_insert(0, "type".to_owned(), "BPE".into());
    }
    let added = file["added_tokens"].as_array().cloned().unwrap_or_default();
    if let Some(Value::Object(vocab)) = file.pointer_mut("/model/vocab") {
        for token in added {
            let Some(content) = token["content"].as_str() else { continue };
            vocab.entry(content).or_insert_with(|| token["id"].clone());
        }
    }
    // The library fails where it has to write a token that there is not.
    let unknown = file["model"]["unk_token"].as_str();
    if unknown.is_none_or(|token| file["model"]["vocab"].get(token).is_none()) {
        file["model"]["unk_token"] = Value::Null;
    }
    file
}

/// The same tokenizer without these added tokens; where training put them into the model's vocabulary too, they leave that
/// as well, so that no sequence of merges can make one. What has no token becomes the same unknown one as before.
pub(super) fn without_added(mut file: Value, added: &HashSet<&str>) -> Value {
    if let Some(Value::Array(tokens)) = file.get_mut("added_tokens") {
        tokens.retain(|token| token["content"].as_str().is_some_and(|content| !added.contains(content)));
    }
    let unknown = file["model"]["unk_token"].as_str().filter(|token| added.contains(*token));
    if let Some(id) = unknown.and_then(|token| file["model"]["vocab"].get(token)).cloned() {
        file["model"]["vocab"][UNKNOWN] = id;
        file["model"]["unk_token"] = UNKNOWN.into();
    }
    if let Some(Value::Object(vocab)) = file.pointer_mut("/model/vocab") {
        vocab.retain(|token, _| !added.contains(token.as_str()));
    }
    if let Some(Value::Array(merges)) = file.pointer_mut("/model/merges") {
        merges.retain(|merge| {
            merge_parts(merge).is_some_and(|(a, b)| {
                !added.contains(a) && !added.contains(b) && !added.contains(format!("{a}{b}").as_str())
            })
        });
    }
    file
}

/// The same tokenizer without a space in front.
pub(super) fn without_prefix(mut file: Value) -> Value {
    if let Some(Value::Array(steps)) = file.pointer_mut("/normalizer/normalizers") {
        steps.retain(|step| step["type"] != "Prepend");
    }
    for place in ["/pre_tokenizer", "/pre_tokenizer/pretokenizers/0"] {
        if let Some(metaspace) = file.pointer_mut(place).filter(|step| step["type"] == "Metaspace") {
            metaspace["prepend_scheme"] = "never".into();
            metaspace["add_prefix_space"] = false.into();
        }
    }
    file
}

/// The two tokens of a merge, written `"a b"` or `["a", "b"]`; `None` for anything else, the first line of old files
/// among it.
pub(crate) fn merge_parts(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(_) if is_version_line(merge) => None,
        Value::String(pair) => pair.split_once(' ').filter(|(_, b)| !b.contains(' ')),
        Value::Array(pair) => match &pair[..] {
            [Value::String(a), Value::String(b)] => Some((a, b)),
            _ => None,
        },
        _ => None,
    }
}

/// Old files carry the first line of `merges.txt` along.
pub(super) fn is_version_line(merge: &Value) -> bool {
    merge.as_str().is_some_and(|line| line.starts_with("#version"))
}
