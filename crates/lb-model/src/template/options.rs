//! How a conversation is rendered.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::message::conversation_error;
use super::{ChatTemplate, Content, Message};
use crate::Result;

/// How the rendered text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptEnd {
    /// With the opening of an answer (`add_generation_prompt=True`).
    #[default]
    AnswerPrompt,
    /// With the last message, closed as the template closes it (`add_generation_prompt=False`).
    Closed,
    /// Inside the last message, for the model to go on with it (`continue_final_message=True`).
    Open,
}

/// What [`ChatTemplate::render`] takes besides the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// Functions that the model may call, as JSON schemas. `None` and an empty list are different to some templates.
    pub tools: Option<Vec<Value>>,
    /// Whether the model may think before it answers; `None` leaves the template's own choice.
    pub enable_thinking: Option<bool>,
    /// How the text ends.
    pub ending: PromptEnd,
    /// Further variables of the template (`date_string`, `documents`, ...). They win over every other variable.
    pub variables: Map<String, Value>,
    /// The time that `strftime_now` tells, in UTC; `None` is the system's. For a local time, add the zone's offset.
    pub now: Option<SystemTime>,
}

/// Put behind the last message to find where it ends. The space shows whether the template trims.
const END: &str = "\u{E0B3}end\u{E0B4} ";

impl ChatTemplate {
    /// The messages as the template sees them.
    pub(super) fn prepare(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<Value>> {
        if messages.is_empty() {
            return Err(conversation_error("messages", "no message"));
        }
        let mut messages = messages.to_vec();
        if messages.iter().any(|m| matches!(m.content, Some(Content::Parts(_)))) && !self.takes_parts() {
            messages.iter_mut().for_each(Message::join_parts);
        }
        if options.ending == PromptEnd::Open {
            let field = || format!("messages[{}].content", messages.len() - 1);
            let last = messages.last().and_then(|m| m.content.as_ref());
            let open = match last {
                Some(Content::Text(text)) => Some(Content::Text(format!("{text}{END}"))),
                Some(Content::Parts(parts)) if !parts.is_empty() => {
                    let mut parts = parts.clone();
                    if let Some(part) = parts.last_mut() {
                        part.text.push_str(END);
                    }
                    Some(Content::Parts(parts))
                }
                _ => return Err(conversation_error(field(), "no text to go on with")),
            };
            if let Some(last) = messages.last_mut() {
                last.content = open;
            }
        }
        messages.iter().enumerate().map(|(index, message)| message.to_value(index)).collect()
    }

    /// Whether the template shows the text of a list of parts, and nothing else of the list.
    fn takes_parts(&self) -> bool {
        const TEXT: &str = "\u{E0B5}part\u{E0B6}";
        let part = serde_json::json!([{"role": "user", "content": [{"type": "text", "text": TEXT}]}]);
        let Value::Array(messages) = part else { return false };
        let text = super::render(&self.source, &self.special, &messages, &RenderOptions::default());
        text.is_ok_and(|text| {
            text.match_indices(TEXT).count() == 1 && !text.contains("'type'") && !text.contains("\"type\"")
        })
    }
}

impl RenderOptions {
    /// Cuts an open conversation behind its last message, with transformers' rule for templates that trim.
    pub(super) fn finish(&self, mut text: String, messages: &[Value]) -> Result<String> {
        if self.ending != PromptEnd::Open {
            return Ok(text);
        }
        let content = messages.last().map(|message| &message["content"]);
        let open = content.and_then(|content| match content {
            Value::Array(parts) => parts.last()?["text"].as_str(),
            content => content.as_str(),
        });
        let shown = open.is_some_and(|open| text.contains(open.trim_end_matches(END).trim()));
        let tag = END.trim_end();
        let Some(at) = text.rfind(tag).filter(|_| shown) else {
            let field = format!("messages[{}].content", messages.len() - 1);
            return Err(conversation_error(
                field,
                "the template does not show it whole, so that it cannot go on",
            ));
        };
        let keeps_spaces = text[at..].starts_with(END);
        text.truncate(at);
        if !keeps_spaces {
            text.truncate(text.trim_end().len());
        }
        Ok(text)
    }
}
