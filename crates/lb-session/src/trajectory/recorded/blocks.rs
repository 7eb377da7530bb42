//! Contents of messages: a text, nothing, or a list of blocks as OpenAI's and Anthropic's interfaces have them.

use serde_json::{Map, Value};

use super::calls;
use super::reading::Reading;
use crate::Source;

/// Who a message's own texts are of.
#[derive(Clone, Copy)]
pub(super) struct Voice<'a> {
    pub(super) source: Source,
    pub(super) name: Option<&'a str>,
}

/// Reads a content into the segments of the message in hand.
pub(super) fn content(content: Option<&Value>, voice: Voice<'_>, out: &mut Reading) {
    match content {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => spoken(text, voice, out),
        Some(Value::Array(blocks)) => {
            let mut pending = String::new();
            for block in blocks {
                if let Some(text) = plain(block) {
                    join(&mut pending, text);
                    continue;
                }
                if !pending.is_empty() {
                    spoken(&std::mem::take(&mut pending), voice, out);
                }
                special(block, voice, out);
            }
            spoken(&pending, voice, out);
        }
        Some(block @ Value::Object(_)) => match plain(block) {
            Some(text) => spoken(text, voice, out),
            None => special(block, voice, out),
        },
        Some(other) => out.say(voice.source, voice.name, &other.to_string()),
    }
}

/// A text, its `<think>` part apart where it begins with one.
fn spoken(text: &str, voice: Voice<'_>, out: &mut Reading) {
    let thought = text.trim_start().strip_prefix("<think>").and_then(|rest| rest.split_once("</think>"));
    match thought {
        Some((thought, rest)) if voice.source == Source::Reply => {
            out.say(Source::Reasoning, voice.name, thought.trim());
            out.say(voice.source, voice.name, rest.trim_start());
        }
        _ => out.say(voice.source, voice.name, text),
    }
}

/// The text of a block that is nothing but that.
fn plain(block: &Value) -> Option<&str> {
    let Value::Object(map) = block else { return block.as_str() };
    match map.get("type").and_then(Value::as_str) {
        Some("text" | "input_text" | "output_text" | "summary_text") | None => map.get("text")?.as_str(),
        Some("refusal") => map.get("refusal")?.as_str(),
        _ => None,
    }
}

fn special(block: &Value, voice: Voice<'_>, out: &mut Reading) {
    let Value::Object(map) = block else {
        if !block.is_null() {
            out.say(voice.source, voice.name, &block.to_string());
        }
        return;
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    match text("type") {
        Some("thinking") => out.say(Source::Reasoning, voice.name, text("thinking").unwrap_or_default()),
        Some("reasoning") => {
            out.say(Source::Reasoning, voice.name, text("text").or(text("reasoning")).unwrap_or_default());
        }
        Some("tool_use" | "server_tool_use" | "mcp_tool_use" | "tool_call") => {
            let name = text("name").unwrap_or("tool");
            out.called(text("id"), name);
            let arguments = map.get("input").or_else(|| map.get("arguments"));
            out.say(Source::Code, None, &calls::text(name, arguments));
            out.calls();
        }
        Some(kind) if kind.ends_with("tool_result") => result(map, out),
        Some(kind) => out.left_out(kind),
        None => out.say(voice.source, voice.name, &block.to_string()),
    }
}

/// What a tool gave back, under the name that its call had.
fn result(map: &Map<String, Value>, out: &mut Reading) {
    let id = map.get("tool_use_id").or_else(|| map.get("tool_call_id")).and_then(Value::as_str);
    let name = out.name_of_call(id);
    let inner = map.get("content").or_else(|| map.get("output"));
    content(inner, Voice { source: Source::Tool, name: name.as_deref() }, out);
}

fn join(all: &mut String, text: &str) {
    if !all.is_empty() && !all.ends_with('\n') {
        all.push('\n');
    }
    all.push_str(text);
}
