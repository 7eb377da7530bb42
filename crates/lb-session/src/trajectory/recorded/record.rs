//! One log as it lies in JSON: where its messages are, and what else it says.

use serde_json::{Map, Value};

use super::fault::{LogFault, kind, mistyped, unknown};
use super::format::LogFormat;
use super::reading::Reading;
use super::{RecordedLog, autogen, chat, responses, rlm, roles, swe_agent};
use crate::Source;

/// Where messages stand, by the names that programs give that place.
const PLACES: [&str; 11] = [
    "trajectory",
    "traj",
    "messages",
    "history",
    "conversations",
    "conversation",
    "chat_history",
    "message_thread",
    "llm_messages",
    "input",
    "output",
];

/// True for what is a message of a log, or a line of one, rather than a log.
pub(super) fn is_message(value: &Value) -> bool {
    let Value::Object(map) = value else { return false };
    if rlm::is_first_line(value) || responses::is_item(map) || autogen::is_event(map) {
        return true;
    }
    if roles::role(map).is_some() {
        return ["content", "text", "value", "parts", "tool_calls"].iter().any(|key| map.contains_key(*key));
    }
    let own_line = map.get("type").is_some_and(Value::is_string);
    own_line && place(map).is_none() && state(map).is_none()
}

/// Reads a log.
pub(super) fn read(value: &Value) -> Result<RecordedLog, LogFault> {
    match value {
        Value::Object(map) if !is_message(value) => object(map),
        Value::Object(_) => list(std::slice::from_ref(value)),
        Value::Array(values) => match values.as_slice() {
            [] => Err(LogFault::Empty { field: "messages".to_owned() }),
            [first, ..] if is_message(first) => list(values),
            [only] => read(only),
            [Value::Object(first), ..] if place(first).is_some() => {
                Err(LogFault::Several { logs: values.len() })
            }
            [Value::Object(first), ..] => Err(unknown(first)),
            [first, ..] => Err(mistyped("[0]", "an object", first)),
        },
        other => Err(LogFault::Unknown { got: kind(other).to_owned() }),
    }
}

/// A bare list of messages, or the lines of a log.
fn list(values: &[Value]) -> Result<RecordedLog, LogFault> {
    let mut out = Reading::default();
    let mut log = RecordedLog::new(LogFormat::of(values));
    if values.first().is_some_and(rlm::is_first_line) {
        log.format = LogFormat::Rlm;
        let asked = rlm::lines(values, &mut out);
        (log.task, log.target) = (asked.question, asked.answer);
    } else {
        chat::messages(values, "messages", None, &mut out)?;
    }
    log.take(out, "messages")
}

fn object(map: &Map<String, Value>) -> Result<RecordedLog, LogFault> {
    // A line of a batch file: the request is its body.
    if let (Some(Value::Object(body)), Some(id)) = (map.get("body"), map.get("custom_id")) {
        let mut log = object(body)?;
        log.id = log.id.or_else(|| id.as_str().map(str::to_owned));
        return Ok(log);
    }
    let Some((field, value)) = place(map) else {
        return match state(map) {
            Some(state) => object(state),
            None => Err(unknown(map)),
        };
    };
    let kept;
    let values: &[Value] = match value {
        Value::Array(values) => values,
        // Some sets keep a list as JSON in a string; the Responses interface takes a bare request.
        Value::String(text) => {
            kept = match serde_json::from_str(text) {
                Ok(Value::Array(values)) => values,
                _ if field == "input" => vec![serde_json::json!({ "role": "user", "content": text })],
                _ => return Err(mistyped(field, "an array", value)),
            };
            &kept
        }
        other => return Err(mistyped(field, "an array", other)),
    };
    let mut out = Reading::default();
    let question = text(map, &["task", "question"])?;
    instructions(map, &mut out);
    let format = if values.first().is_some_and(swe_agent::is_step) {
        swe_agent::steps(values, map.get("history"), &mut out)?;
        LogFormat::SweAgent
    } else {
        chat::messages(values, field, question.as_deref(), &mut out)?;
        if let (Some(Value::Array(output)), "input") = (map.get("output"), field) {
            chat::messages(output, "output", None, &mut out)?;
        }
        LogFormat::of_object(map, field, values)
    };
    let mut log = RecordedLog::new(format);
    log.id = id(map, &IDS);
    log.about = id(map, &TASKS);
    log.task = question.unwrap_or_default();
    log.target = text(map, &["target"])?.unwrap_or_default();
    log.answers = answers(map)?;
    log.take(out, field)
}

/// The first place that has messages; one that is there and empty where no other has any.
fn place(map: &Map<String, Value>) -> Option<(&'static str, &Value)> {
    let places = || PLACES.iter().filter_map(|name| Some((*name, map.get(*name)?)));
    let filled = |value: &Value| match value {
        Value::Array(values) => values.iter().any(Value::is_object),
        Value::String(text) => !text.trim().is_empty(),
        _ => false,
    };
    places().find(|(_, value)| filled(value)).or_else(|| places().find(|(_, value)| !value.is_null()))
}

/// The agent of a saved team of AutoGen that knows the whole thread, or the context of one agent.
fn state(map: &Map<String, Value>) -> Option<&Map<String, Value>> {
    if let Some(Value::Object(context)) = map.get("llm_context") {
        return Some(context);
    }
    let Some(Value::Object(agents)) = map.get("agent_states") else { return None };
    let thread = |agent: &&Map<String, Value>| agent.contains_key("message_thread");
    agents.values().filter_map(Value::as_object).find(thread)
}

/// What the interfaces have beside the messages rather than as the first of them.
fn instructions(map: &Map<String, Value>, out: &mut Reading) {
    for key in ["system", "instructions", "system_prompt"] {
        match map.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Object(_)) => out.left_out(key),
            Some(said) => {
                let voice = super::blocks::Voice { source: Source::Request, name: None };
                super::blocks::content(Some(said), voice, out);
            }
        }
    }
}

/// Fields that name a log.
const IDS: [&str; 5] = ["id", "_id", "traj_id", "conversation_id", "uuid"];

/// Fields that name what a log is about.
const TASKS: [&str; 3] = ["task_id", "question_ID", "instance_id"];

fn id(map: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match map.get(*name)? {
        Value::String(id) if !id.trim().is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    })
}

/// The first of these fields that has a text.
fn text(map: &Map<String, Value>, names: &[&str]) -> Result<Option<String>, LogFault> {
    for name in names {
        match map.get(*name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.trim().is_empty() => {}
            Some(Value::String(text)) => return Ok(Some(text.clone())),
            // A message, as AutoGen's states keep their task.
            Some(Value::Object(_) | Value::Array(_))
                if *name == "task" && map.contains_key("message_thread") => {}
            Some(other) => return Err(mistyped(*name, "a string", other)),
        }
    }
    Ok(None)
}

fn answers(map: &Map<String, Value>) -> Result<Vec<String>, LogFault> {
    let value = ["answers", "ground_truth"].iter().find_map(|name| Some((*name, map.get(*name)?)));
    match value {
        None | Some((_, Value::Null)) => Ok(Vec::new()),
        Some((_, Value::String(one))) => Ok(vec![one.clone()]),
        Some((_, Value::Number(one))) => Ok(vec![one.to_string()]),
        Some((name, Value::Array(all))) => {
            let each = all.iter().map(|value| match value {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(mistyped(name, "an array of strings", other)),
            });
            each.collect()
        }
        Some((name, other)) => Err(mistyped(name, "an array of strings", other)),
    }
}
