//! The tokenizers behind a [`Tokenizer`](super::Tokenizer), as JSON for the library.

use std::collections::HashSet;

use serde_json::Value;

/// The file without what only concerns whole prompts and batches. Padding and truncation are off in transformers, too,
/// unless a call asks for them.
pub(super) fn full(mut file: Value) -> Value {
    for field in ["post_processor", "padding", "truncation"] {
        file[field] = Value::Null;
    }
    file["version"] = "1.0".into();
    // Every byte has a token.
    file["model"]["unk_token"] = Value::Null;
    file
}

/// The same tokenizer without added tokens; where training put them into the model's vocabulary too, they leave that
/// as well, so that no sequence of merges can make one.
pub(super) fn without_added(mut file: Value, added: &HashSet<&str>) -> Value {
    file["added_tokens"] = Value::Array(Vec::new());
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

/// The two tokens of a merge, written `"a b"` or `["a", "b"]`.
pub(super) fn merge_parts(merge: &Value) -> Option<(&str, &str)> {
    match merge {
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
