//! Calls of tools as a line that a worker reads.

use serde_json::Value;

/// `search({"query":"…"})`; the argument itself where it is one text, `bash(ls -l)`.
pub(super) fn text(name: &str, arguments: Option<&Value>) -> String {
    // OpenAI writes arguments as JSON in a string, which models get wrong at times.
    let parsed = arguments.and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    let arguments = match (parsed, arguments) {
        (Some(parsed @ Value::Object(_)), _) => said(&parsed),
        (_, Some(other)) => said(other),
        (_, None) => String::new(),
    };
    format!("{name}({arguments})")
}

fn said(arguments: &Value) -> String {
    match arguments {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        Value::Object(map) if map.is_empty() => String::new(),
        Value::Object(map) => match map.values().next() {
            Some(Value::String(only)) if map.len() == 1 => only.trim().to_owned(),
            _ => arguments.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;

    #[test]
    fn one_text_stands_bare_and_everything_else_as_json() {
        for (arguments, expected) in [
            (Some(json!("{\"city\":\"Oslo\"}")), "f(Oslo)"),
            (Some(json!({"code": "a\nb"})), "f(a\nb)"),
            (Some(json!({"a": 1, "b": "x"})), "f({\"a\":1,\"b\":\"x\"})"),
            (Some(json!("{\"a\": ")), "f({\"a\":)"),
            (Some(json!("{}")), "f()"),
            (Some(json!({})), "f()"),
            (Some(json!(null)), "f()"),
            (Some(json!([1])), "f([1])"),
            (None, "f()"),
        ] {
            assert_eq!(text("f", arguments.as_ref()), expected, "{arguments:?}");
        }
    }
}
