//! AutoGen's typed messages, of AgentChat (`source`, `type`) and of a model's context.

use serde_json::{Map, Value};

use super::blocks::{self, Voice};
use super::calls;
use super::reading::Reading;
use super::roles::{self, Aside, Cast, Speaker};
use crate::Source;

/// True for a message whose type is the name of one of AutoGen's classes.
pub(super) fn is_event(message: &Map<String, Value>) -> bool {
    let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
    let class =
        kind.starts_with(char::is_uppercase) && (kind.ends_with("Message") || kind.ends_with("Event"));
    class && !message.contains_key("role")
}

/// Reads one message or event.
pub(super) fn event(message: &Map<String, Value>, cast: &Cast, out: &mut Reading) {
    let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
    let source = message.get("source").and_then(Value::as_str).unwrap_or_default();
    let content = message.get("content");
    let named = Some(source).filter(|_| cast.group);
    match kind {
        "ThoughtEvent" => thought(content, named, out),
        "ToolCallRequestEvent" | "ToolCallMessage" => requests(content, out),
        "ToolCallExecutionEvent" | "ToolCallResultMessage" | "FunctionExecutionResultMessage" => {
            results(content, out);
        }
        "ToolCallSummaryMessage" if repeats(content, out) => out.left_out(kind),
        "CodeGenerationEvent"
        | "TextMessage"
        | "StopMessage"
        | "ToolCallSummaryMessage"
        | "HandoffMessage"
        | "MultiModalMessage"
        | "StructuredMessage"
        | "UserMessage"
        | "SystemMessage" => {
            speech(kind, source, content, cast, out);
        }
        "AssistantMessage" if content.is_some_and(is_calls) => {
            thought(message.get("thought"), named, out);
            requests(content, out);
        }
        "AssistantMessage" => {
            thought(message.get("thought"), named, out);
            speech(kind, source, content, cast, out);
        }
        "CodeExecutionEvent" => {
            out.begin(false);
            let output = message.get("result").and_then(|result| result.get("output"));
            blocks::content(output, Voice { source: Source::Tool, name: named }, out);
            out.end();
        }
        "MemoryQueryEvent" => {
            out.begin(false);
            blocks::content(content, Voice { source: Source::Tool, name: Some("memory") }, out);
            out.end();
        }
        // Chunks of what follows whole, selections of speakers, requests for input.
        other => out.left_out(other),
    }
}

fn speech(kind: &str, source: &str, content: Option<&Value>, cast: &Cast, out: &mut Reading) {
    let (source, name, answers) = match cast.speaker(source) {
        _ if kind == "SystemMessage" => (Source::Request, None, false),
        Speaker::Orchestrator(Aside::To(whom)) => (Source::Reasoning, Some(whom), false),
        Speaker::Orchestrator(Aside::Termination(name)) => (Source::Tool, Some(name), false),
        Speaker::Orchestrator(Aside::FinalAnswer) => (Source::Reply, None, false),
        Speaker::Orchestrator(Aside::Thought) => (Source::Reasoning, None, false),
        Speaker::Is(Source::Request, _) => (Source::Request, None, false),
        _ if roles::executes(source) || cast.orchestrated => (Source::Tool, Some(source), false),
        _ if cast.group => (Source::Reasoning, Some(source), true),
        _ => (Source::Reply, None, true),
    };
    out.begin(answers);
    if source == Source::Tool {
        out.ran();
    }
    match content {
        // Texts and pictures side by side.
        Some(Value::Array(parts)) if kind == "MultiModalMessage" => {
            for part in parts {
                match part {
                    Value::String(text) => out.say(source, name, text),
                    _ => out.left_out("image"),
                }
            }
        }
        other => blocks::content(other, Voice { source, name }, out),
    }
    out.end();
}

fn thought(content: Option<&Value>, name: Option<&str>, out: &mut Reading) {
    if let Some(Value::String(text)) = content {
        out.begin(true);
        out.say(Source::Reasoning, name, text);
        out.end();
    }
}

fn is_calls(content: &Value) -> bool {
    content.as_array().and_then(|list| list.first()).is_some_and(|first| first.get("arguments").is_some())
}

fn requests(content: Option<&Value>, out: &mut Reading) {
    out.begin(true);
    for call in content.and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| call.get(key).and_then(Value::as_str);
        let name = text("name").unwrap_or("tool");
        out.called(text("id"), name);
        out.say(Source::Code, None, &calls::text(name, call.get("arguments")));
    }
    out.calls();
    out.end();
}

fn results(content: Option<&Value>, out: &mut Reading) {
    out.begin(false);
    for result in content.and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| result.get(key).and_then(Value::as_str);
        let known = out.name_of_call(text("call_id"));
        let name = text("name").map(str::to_owned).or(known);
        let voice = Voice { source: Source::Tool, name: name.as_deref() };
        blocks::content(result.get("content"), voice, out);
    }
    out.end();
}

/// Whether a summary only says again what the tool gave back.
fn repeats(content: Option<&Value>, out: &Reading) -> bool {
    let said = content.and_then(Value::as_str).unwrap_or_default().trim();
    out.segments.last().is_some_and(|last| last.source == Source::Tool && last.text.trim() == said)
}
