//! Messages of a conversation, one by one.

use serde_json::{Map, Value};

use super::blocks::{self, Voice};
use super::fault::{LogFault, mistyped};
use super::reading::Reading;
use super::roles::{self, Aside, Cast, Speaker};
use super::{autogen, calls, responses, swe_agent};
use crate::Source;

/// What programs write before the output of what they ran, in the name of the user.
const OUTPUTS: [&str; 4] = ["<returncode>", "exitcode: ", "OBSERVATION:", "Observation:"];

/// Reads messages that stand in `field`. `question` is what the log says was asked, where it says so.
pub(super) fn messages(
    messages: &[Value],
    field: &str,
    question: Option<&str>,
    out: &mut Reading,
) -> Result<(), LogFault> {
    let cast = Cast::of(messages);
    for (number, value) in messages.iter().enumerate() {
        let Value::Object(map) = value else {
            return Err(mistyped(format!("{field}[{number}]"), "an object", value));
        };
        match bare(map) {
            Ok(map) => message(map, &cast, question, out),
            Err(kind) => out.left_out(kind),
        }
    }
    Ok(())
}

/// A message out of what wraps it in a transcript of a coding agent: Claude Code writes `{"type", "message": {…}}`,
/// Codex `{"type": "response_item", "payload": {…}}`, both beside lines of their own.
fn bare(map: &Map<String, Value>) -> Result<&Map<String, Value>, &str> {
    let kind = map.get("type").and_then(Value::as_str);
    if roles::role(map).is_some() || responses::is_item(map) || autogen::is_event(map) {
        return Ok(map);
    }
    if map.get("isSidechain") == Some(&Value::Bool(true)) {
        return Err("sidechain");
    }
    match (map.get("message"), map.get("payload"), kind) {
        (Some(Value::Object(message)), _, _) => Ok(message),
        (_, Some(Value::Object(payload)), Some("response_item")) => Ok(payload),
        (_, _, Some(kind)) => Err(kind),
        _ => Err("a message without a role"),
    }
}

fn message(map: &Map<String, Value>, cast: &Cast, question: Option<&str>, out: &mut Reading) {
    if responses::is_item(map) {
        return responses::item(map, out);
    }
    if autogen::is_event(map) {
        return autogen::event(map, cast, out);
    }
    if map.get("is_demo") == Some(&Value::Bool(true)) {
        return out.left_out("demonstration");
    }
    let Some(role) = roles::role(map) else { return out.left_out("a message without a role") };
    if swe_agent::is_message(map) {
        return swe_agent::message(map, role, out);
    }
    let content = ["content", "text", "value", "parts"].iter().find_map(|key| map.get(*key));
    let (voice, answers) = voice(map, role, content, (cast, question), out);
    out.begin(answers);
    if voice.source == Source::Tool {
        out.ran();
    }
    for key in ["reasoning_content", "reasoning", "thinking"] {
        if let Some(Value::String(thought)) = map.get(key) {
            out.say(Source::Reasoning, None, thought);
            break;
        }
    }
    let named = voice.name.map(str::to_owned).or_else(|| {
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        let called = out.name_of_call(text("tool_call_id"));
        called.or_else(|| text("tool_name").map(str::to_owned)).filter(|_| voice.source == Source::Tool)
    });
    blocks::content(content, Voice { source: voice.source, name: named.as_deref() }, out);
    if let Some(Value::String(refusal)) = map.get("refusal") {
        out.say(voice.source, named.as_deref(), refusal);
    }
    called(map, out);
    out.end();
}

/// Calls of tools beside a message's text, in today's form and the one before it.
fn called(map: &Map<String, Value>, out: &mut Reading) {
    let listed = map.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let legacy = map.get("function_call").filter(|call| call.is_object());
    for call in listed.chain(legacy) {
        let function = call.get("function").or_else(|| call.get("custom")).unwrap_or(call);
        let name = function.get("name").and_then(Value::as_str).unwrap_or("tool");
        let arguments = ["arguments", "input", "args"].iter().find_map(|key| function.get(*key));
        out.called(call.get("id").and_then(Value::as_str), name);
        out.say(Source::Code, None, &calls::text(name, arguments));
        out.calls();
    }
}

/// Whose text a message is, and whether the model under orchestration wrote it.
fn voice<'a>(
    map: &'a Map<String, Value>,
    role: &'a str,
    content: Option<&Value>,
    (cast, question): (&Cast, Option<&str>),
    out: &mut Reading,
) -> (Voice<'a>, bool) {
    let own = roles::name(map);
    let text = content.and_then(Value::as_str).unwrap_or_default();
    let of = |source, name| (Voice { source, name }, false);
    let output = OUTPUTS.iter().any(|mark| text.trim_start().starts_with(mark));
    let spoken = roles::is_request(role) || roles::is_assistant(role);
    if let (true, true, Some(name)) = (cast.group, spoken, own) {
        return member(name, role, output, asks(text, question));
    }
    match cast.speaker(role) {
        Speaker::Is(Source::Request, _) if output && !out.segments.is_empty() => of(Source::Tool, None),
        Speaker::Is(source, name) => of(source, own.or(name)),
        Speaker::Assistant => (Voice { source: Source::Reply, name: own }, true),
        Speaker::Orchestrator(aside) => {
            let (source, name) = match aside {
                Aside::Thought => (Source::Reasoning, None),
                Aside::To(whom) => (Source::Reasoning, Some(whom)),
                Aside::Termination(name) => (Source::Tool, Some(name)),
                Aside::FinalAnswer => (Source::Reply, None),
            };
            of(source, name)
        }
        Speaker::Unknown(role) => {
            out.unknown_role(role);
            of(Source::Tool, own.or(Some(role).filter(|role| !role.is_empty())))
        }
    }
}

/// One of a group of AutoGen's agents, whose roles say only whose turn it was.
fn member<'a>(name: &'a str, role: &str, output: bool, asks: bool) -> (Voice<'a>, bool) {
    if roles::executes(name) || output {
        return (Voice { source: Source::Tool, name: Some(name) }, false);
    }
    let lower = name.to_lowercase();
    let proxy = lower.contains("user") || matches!(lower.as_str(), "admin" | "human" | "chat_manager");
    if asks || (proxy && roles::is_request(role)) {
        return (Voice { source: Source::Request, name: None }, false);
    }
    (Voice { source: Source::Reasoning, name: Some(name) }, true)
}

/// Whether a text poses the question.
fn asks(text: &str, question: Option<&str>) -> bool {
    question.is_some_and(|question| !question.trim().is_empty() && text.contains(question.trim()))
}
