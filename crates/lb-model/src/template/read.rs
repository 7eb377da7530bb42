//! Conversations from JSON, with errors that say where.

use serde_json::{Map, Value};

use super::message::conversation_error;
use super::{Content, Conversation, Message, PartKind, TextPart};
use crate::Result;

impl Conversation {
    /// Reads `[{"role": ..., "content": ...}, ...]`, or an object with `messages` and, if wanted, `tools` (a list of
    /// JSON schemas) and `enable_thinking`.
    ///
    /// `content` is a string or a list of `{"type": "text", "text": ...}`; a tool's may be any JSON, an assistant's may be
    /// `null`, and beside `tool_calls` it may be missing. A key of a message whose value is `null` is kept in
    /// [`Message::extra`] and is none for the template; elsewhere it counts as missing.
    ///
    /// # Errors
    /// [`Error::Conversation`](crate::Error::Conversation) with the place, such as `messages[2].content[0].text`.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(json).map_err(|e| conversation_error("JSON", e.to_string()))?;
        let mut fields = match value {
            Value::Array(messages) => return Ok(messages_from(messages)?.into()),
            Value::Object(fields) => fields,
            other => return Err(expected("JSON", "a list of messages or an object with `messages`", &other)),
        };
        fields.retain(|_, value| !value.is_null());
        let messages = match fields.shift_remove("messages") {
            Some(Value::Array(messages)) => messages_from(messages)?,
            Some(other) => return Err(expected("messages", "a list", &other)),
            None => return Err(conversation_error("messages", "missing")),
        };
        let tools = match fields.shift_remove("tools") {
            None => None,
            Some(Value::Array(tools)) => {
                if let Some((i, tool)) = tools.iter().enumerate().find(|(_, tool)| !tool.is_object()) {
                    return Err(expected(&format!("tools[{i}]"), "an object", tool));
                }
                Some(tools)
            }
            Some(other) => return Err(expected("tools", "a list", &other)),
        };
        let enable_thinking = match fields.shift_remove("enable_thinking") {
            None => None,
            Some(Value::Bool(thinking)) => Some(thinking),
            Some(other) => return Err(expected("enable_thinking", "true or false", &other)),
        };
        if let Some(key) = fields.keys().next() {
            return Err(conversation_error(key, "known are messages, tools and enable_thinking"));
        }
        Ok(Self { messages, tools, enable_thinking })
    }
}

fn messages_from(values: Vec<Value>) -> Result<Vec<Message>> {
    if values.is_empty() {
        return Err(conversation_error("messages", "no message"));
    }
    values.into_iter().enumerate().map(|(index, value)| message_from(index, value)).collect()
}

fn message_from(index: usize, value: Value) -> Result<Message> {
    let place = format!("messages[{index}]");
    let Value::Object(fields) = value else { return Err(expected(&place, "an object", &value)) };
    let (nulls, mut fields): (Map<_, _>, Map<_, _>) =
        fields.into_iter().partition(|(_, value)| value.is_null());
    let Some(role) = text(&mut fields, &place, "role")? else {
        return Err(conversation_error(format!("{place}.role"), "missing"));
    };
    let tool_calls = match fields.shift_remove("tool_calls") {
        None => None,
        Some(Value::Array(calls)) => Some(calls),
        Some(other) => return Err(expected(&format!("{place}.tool_calls"), "a list", &other)),
    };
    for (i, call) in tool_calls.iter().flatten().enumerate() {
        check_call(&format!("{place}.tool_calls[{i}]"), call)?;
    }
    let is_tool = !matches!(role.as_str(), "system" | "user" | "assistant" | "developer");
    let content = match fields.shift_remove("content") {
        None => None,
        Some(value) => Some(content_from(&format!("{place}.content"), value, is_tool)?),
    };
    let reasoning_content = text(&mut fields, &place, "reasoning_content")?;
    let says_nothing = nulls.contains_key("content") && (is_tool || role == "assistant");
    if content.is_none() && tool_calls.is_none() && reasoning_content.is_none() && !says_nothing {
        return Err(conversation_error(format!("{place}.content"), "missing"));
    }
    Ok(Message {
        role,
        content,
        reasoning_content,
        tool_calls,
        tool_call_id: text(&mut fields, &place, "tool_call_id")?,
        name: text(&mut fields, &place, "name")?,
        extra: fields.into_iter().chain(nulls).collect(),
    })
}

/// `{"function": {"name": ...}}`, or the inner object alone.
fn check_call(place: &str, call: &Value) -> Result<()> {
    let Value::Object(outer) = call else { return Err(expected(place, "an object", call)) };
    let (place, function) = match outer.get("function") {
        Some(Value::Object(function)) => (format!("{place}.function"), function),
        Some(other) => return Err(expected(&format!("{place}.function"), "an object", other)),
        None => (place.to_string(), outer),
    };
    match function.get("name") {
        Some(Value::String(_)) => Ok(()),
        Some(other) => Err(expected(&format!("{place}.name"), "a string", other)),
        None => Err(conversation_error(format!("{place}.name"), "missing")),
    }
}

fn content_from(place: &str, value: Value, is_tool: bool) -> Result<Content> {
    match value {
        Value::String(text) => Ok(Content::Text(text)),
        Value::Array(parts) if !is_tool || parts.iter().all(|p| p.get("type").is_some()) => {
            let part = |(i, part)| part_from(&format!("{place}[{i}]"), part);
            Ok(Content::Parts(parts.into_iter().enumerate().map(part).collect::<Result<_>>()?))
        }
        other if is_tool => Ok(Content::Data(other)),
        other => Err(expected(place, "a string or a list of text parts", &other)),
    }
}

fn part_from(place: &str, value: Value) -> Result<TextPart> {
    let Value::Object(mut fields) = value else { return Err(expected(place, "an object", &value)) };
    match text(&mut fields, place, "type")?.as_deref() {
        Some("text") => {}
        Some(other) => {
            let reason = format!("`{other}`, where this model reads `text` alone");
            return Err(conversation_error(format!("{place}.type"), reason));
        }
        None => return Err(conversation_error(format!("{place}.type"), "missing")),
    }
    let Some(text) = text(&mut fields, place, "text")? else {
        return Err(conversation_error(format!("{place}.text"), "missing"));
    };
    match fields.keys().next() {
        Some(key) => Err(conversation_error(format!("{place}.{key}"), "a text part has type and text alone")),
        None => Ok(TextPart { kind: PartKind::Text, text }),
    }
}

fn text(fields: &mut Map<String, Value>, place: &str, field: &str) -> Result<Option<String>> {
    match fields.shift_remove(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(expected(&format!("{place}.{field}"), "a string", &other)),
    }
}

fn expected(place: &str, what: &str, got: &Value) -> crate::Error {
    let kind = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    conversation_error(place, format!("{kind}, expected {what}"))
}
