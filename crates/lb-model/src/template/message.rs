//! Messages and conversations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RenderOptions;
use crate::{Error, Result};

/// One turn. Serialises to the usual JSON; keys that are not known here are kept and reach the template.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what the template calls it.
    pub role: String,
    /// What is said. May be missing beside tool calls; `null` in JSON is none for the template (see
    /// [`extra`](Self::extra)), which is not the same as missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// The assistant's thoughts, apart from its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Calls that the assistant makes, as JSON objects. Templates want `arguments` as an object; a string of JSON
    /// reaches them as a string, as in transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<Value>>,
    /// The call that a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The tool's or the speaker's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Everything else, and the keys above whose value is `null` in a conversation's JSON.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text in parts.
    Parts(Vec<TextPart>),
    /// A tool's result that is not text.
    Data(Value),
}

/// `{"type": "text", "text": ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPart {
    /// What kind of part it is.
    #[serde(rename = "type")]
    pub kind: PartKind,
    /// The text.
    pub text: String,
}

/// Kinds of parts that models of text read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartKind {
    /// Text.
    #[default]
    Text,
}

/// Messages with what else a chat request says. [`from_json`](Self::from_json) reads it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The turns, oldest first.
    pub messages: Vec<Message>,
    /// Functions that the model may call, as JSON schemas.
    pub tools: Option<Vec<Value>>,
    /// Whether the model may think before it answers.
    pub enable_thinking: Option<bool>,
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(Content::Text(text.into())), ..Self::default() }
    }

    pub(super) fn join_parts(&mut self) {
        if let Some(Content::Parts(parts)) = &self.content {
            self.content = Some(Content::Text(parts.iter().map(|part| part.text.as_str()).collect()));
        }
    }

    /// The message as the template sees it: thoughts go by the names that templates use for them.
    pub(super) fn to_value(&self, index: usize) -> Result<Value> {
        let failed = |e: serde_json::Error| conversation_error(format!("messages[{index}]"), e.to_string());
        let mut value = serde_json::to_value(self).map_err(failed)?;
        if let Some(map) = value.as_object_mut() {
            let names = ["reasoning_content", "thinking", "reasoning"];
            let thoughts = names.iter().find_map(|name| map.get(*name).filter(|value| !value.is_null()));
            if let Some(thoughts) = thoughts.cloned() {
                let thinking = map.entry("thinking").or_insert(Value::Null);
                if thinking.is_null() {
                    *thinking = thoughts.clone();
                }
                map.insert("reasoning_content".to_string(), thoughts);
            }
        }
        Ok(value)
    }
}

impl Conversation {
    /// The options that render this conversation; set the others as needed.
    pub fn options(&self) -> RenderOptions {
        RenderOptions {
            tools: self.tools.clone(),
            enable_thinking: self.enable_thinking,
            ..RenderOptions::default()
        }
    }
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, ..Self::default() }
    }
}

pub(super) fn conversation_error(field: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Conversation { field: field.into(), reason: reason.into() }
}
