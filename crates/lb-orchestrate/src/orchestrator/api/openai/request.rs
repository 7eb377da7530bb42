//! What is asked.

use serde_json::{Value, json};

use super::super::config::Streaming;
use super::OpenAiConfig;
use super::habits::Habits;
use crate::{ChatMessage, ChatRequest, Error, Result, Role};

/// The body of a request.
pub(super) fn body(config: &OpenAiConfig, habits: &Habits, request: &ChatRequest<'_>) -> Result<Value> {
    if request.messages.is_empty() {
        return Err(Error::Empty { arg: "messages" });
    }
    let messages = if habits.system { request.messages.to_vec() } else { folded(request.messages) };
    let mut body = json!({ "model": config.model, "messages": messages });
    if let Some(limit) = request.max_tokens.or(config.max_tokens) {
        body[habits.limit_field] = limit.into();
    }
    if let Some(temperature) = config.temperature {
        body["temperature"] = temperature.into();
    }
    if let Some(effort) = config.effort {
        body["reasoning_effort"] = effort.word().into();
    }
    if config.connection.streaming == Streaming::On && habits.streams {
        body["stream"] = true.into();
        if habits.stream_options {
            body["stream_options"] = json!({ "include_usage": true });
        }
    }
    for (name, value) in &config.extra {
        body[name.as_str()] = value.clone();
    }
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|name, _| !habits.without.contains(name.as_str()));
    }
    Ok(body)
}

/// The conversation with its system text at the head of the user's first message, as templates without a system role want it.
fn folded(messages: &[ChatMessage]) -> Vec<ChatMessage> {
    let (system, mut rest): (Vec<_>, Vec<_>) =
        messages.iter().cloned().partition(|message| message.role == Role::System);
    let text: Vec<String> = system.into_iter().map(|message| message.content).collect();
    let text = text.join("\n\n");
    match rest.iter_mut().find(|message| message.role == Role::User) {
        Some(first) => first.content = format!("{text}\n\n{}", first.content),
        None => rest.insert(0, ChatMessage::new(Role::User, text)),
    }
    rest
}
