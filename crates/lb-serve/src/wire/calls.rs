//! Functions that an answer calls, found in its text.

use serde_json::{Value, json};

/// What an answer says beside the functions that it calls, each a JSON object between `<tool_call>` and `</tool_call>` as models of the
/// Qwen and Hermes families write them. Small ones leave the tags out: an answer that is nothing but such an object, bare or in a fence,
/// is a call as well where it names one of `tools`. What is no call stays text.
pub(crate) fn called(text: &str, tools: &[String]) -> (String, Vec<Value>) {
    const OPEN: &str = "<tool_call>";
    const CLOSE: &str = "</tool_call>";
    let (mut said, mut calls, mut rest) = (String::new(), Vec::new(), text);
    while let Some(at) = rest.find(OPEN) {
        let behind = &rest[at + OPEN.len()..];
        let inner = behind.split(CLOSE).next().unwrap_or(behind);
        let end = behind.find(CLOSE).map_or(behind.len(), |at| at + CLOSE.len());
        said.push_str(&rest[..at]);
        match call(inner) {
            Some(call) => calls.push(call),
            None => said.push_str(&rest[at..at + OPEN.len() + end]),
        }
        rest = &behind[end..];
    }
    said.push_str(rest);
    if calls.is_empty()
        && let Some(bare) = call(unfenced(&said))
        && tools.iter().any(|tool| bare["function"]["name"] == **tool)
    {
        return (String::new(), vec![bare]);
    }
    let said = if calls.is_empty() { said } else { said.trim().to_owned() };
    (said, calls)
}

/// A call, where it is one.
fn call(text: &str) -> Option<Value> {
    let call: Value = serde_json::from_str(text.trim()).ok()?;
    let name = call.get("name")?.as_str()?;
    let arguments = match call.get("arguments").or_else(|| call.get("parameters")) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "{}".to_owned(),
    };
    let id = crate::trajectories::random_name().ok()?;
    let function = json!({ "name": name, "arguments": arguments });
    Some(json!({ "id": format!("call_{id}"), "type": "function", "function": function }))
}

/// What stands in a fence, where that is all there is.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
    inner.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner))
}

/// The names of the functions that a request offers.
pub(crate) fn names(tools: Option<&Value>) -> Vec<String> {
    let name =
        |tool: &Value| tool.pointer("/function/name").or(tool.get("name"))?.as_str().map(str::to_owned);
    tools.and_then(Value::as_array).into_iter().flatten().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::called as found;

    fn called(text: &str) -> (String, Vec<serde_json::Value>) {
        found(text, &["f".to_owned()])
    }

    #[test]
    fn calls_are_taken_out_and_all_else_stays() {
        let (said, calls) =
            called("I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>");
        assert_eq!(said, "I look.");
        assert_eq!(calls[0]["function"]["name"], "f");
        assert_eq!(calls[0]["function"]["arguments"], "{\"x\":1}");
        for bare in ["{\"name\": \"f\", \"arguments\": {}}", "```json\n{\"name\": \"f\"}\n```"] {
            let (said, calls) = called(bare);
            assert_eq!(
                (said.as_str(), calls[0]["function"]["arguments"].as_str()),
                ("", Some("{}")),
                "{bare}"
            );
        }
        let other = "{\"name\": \"g\", \"arguments\": {}}";
        assert_eq!(called(other), (other.to_owned(), Vec::new()));
        for text in
            ["<tool_call> no json </tool_call> x", "a <tool_call>", "plain", "<tool_call>{}</tool_call>"]
        {
            assert_eq!(called(text), (text.to_owned(), Vec::new()), "{text}");
        }
    }
}
