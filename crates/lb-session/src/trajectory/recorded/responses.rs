//! Items of OpenAI's Responses interface, which have types where messages have roles.

use serde_json::{Map, Value};

use super::blocks::{self, Voice};
use super::calls;
use super::reading::Reading;
use crate::Source;

/// Types of items that stand in a list of messages without a role.
const ITEMS: [&str; 10] = [
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "web_search_call",
    "code_interpreter_call",
    "reasoning",
    "file_search_call",
];

pub(super) fn is_item(message: &Map<String, Value>) -> bool {
    let kind = message.get("type").and_then(Value::as_str);
    !message.contains_key("role") && kind.is_some_and(|kind| ITEMS.contains(&kind))
}

/// Reads one item; an `id` of a call names its output.
pub(super) fn item(item: &Map<String, Value>, out: &mut Reading) {
    let text = |key: &str| item.get(key).and_then(Value::as_str);
    let kind = text("type").unwrap_or_default();
    out.begin(!kind.ends_with("_output"));
    match kind {
        "reasoning" => {
            let thoughts = Voice { source: Source::Reasoning, name: None };
            let before = out.segments.len();
            blocks::content(item.get("summary"), thoughts, out);
            if out.segments.len() == before {
                blocks::content(item.get("content"), thoughts, out);
            }
            if out.segments.len() == before {
                out.left_out("reasoning");
            }
        }
        kind if kind.ends_with("_output") => {
            let name = out.name_of_call(text("call_id").or(text("id")));
            let voice = Voice { source: Source::Tool, name: name.as_deref() };
            blocks::content(item.get("output"), voice, out);
        }
        kind => {
            let name = text("name").unwrap_or_else(|| kind.trim_end_matches("_call"));
            out.called(text("call_id").or(text("id")), name);
            let arguments = ["arguments", "input", "action", "code", "queries"];
            let arguments = arguments.iter().find_map(|key| item.get(*key));
            out.say(Source::Code, None, &calls::text(name, arguments));
            out.calls();
            // A call that the service carries out has its result within it.
            let outputs = item.get("outputs").or_else(|| item.get("results"));
            if let Some(Value::Array(outputs)) = outputs {
                for output in outputs.iter().filter_map(|o| o.get("logs").or_else(|| o.get("text"))) {
                    blocks::content(Some(output), Voice { source: Source::Tool, name: Some(name) }, out);
                }
            }
        }
    }
    out.end();
}
