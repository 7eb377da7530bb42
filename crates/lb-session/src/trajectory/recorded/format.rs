//! Whose log it is, by what its messages have.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{autogen, responses, roles, swe_agent};

/// Who wrote a log. Messages are read one by one by what each of them has; this says what they are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogFormat {
    /// `trajectory` of messages with `task` and `target`, or segments of ours.
    Plain,
    /// OpenAI's chat completions.
    OpenAiChat,
    /// OpenAI's Responses.
    OpenAiResponses,
    /// Anthropic's messages.
    Anthropic,
    /// Magentic-One: an orchestrator that thinks, instructs others and hears from them.
    MagenticOne,
    /// AutoGen: a group of agents, or typed events.
    AutoGen,
    /// SWE-agent.
    SweAgent,
    /// Recursive language models, this library's own.
    Rlm,
    /// ShareGPT.
    ShareGpt,
}

impl LogFormat {
    /// The format's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::MagenticOne => "magentic-one",
            Self::AutoGen => "autogen",
            Self::SweAgent => "swe-agent",
            Self::Rlm => "rlm",
            Self::ShareGpt => "sharegpt",
        }
    }

    /// The format of a list of messages.
    pub(super) fn of(messages: &[Value]) -> Self {
        let inner = |value: &'_ Value| -> Option<Map<String, Value>> {
            let map = value.as_object()?;
            let inner = map.get("message").or_else(|| map.get("payload")).and_then(Value::as_object);
            Some(inner.filter(|_| roles::role(map).is_none()).unwrap_or(map).clone())
        };
        let all: Vec<Map<String, Value>> = messages.iter().take(64).filter_map(inner).collect();
        let any = |test: &dyn Fn(&Map<String, Value>) -> bool| all.iter().any(test);
        let role = |map: &Map<String, Value>| roles::role(map).unwrap_or_default().to_lowercase();
        let group = roles::Cast::of(messages);
        if group.orchestrated {
            Self::MagenticOne
        } else if any(&autogen::is_event) || group.group {
            Self::AutoGen
        } else if any(&swe_agent::is_message) {
            Self::SweAgent
        } else if any(&responses::is_item) {
            Self::OpenAiResponses
        } else if any(&|map| map.contains_key("from") && map.contains_key("value")) {
            Self::ShareGpt
        } else if any(&anthropic) {
            Self::Anthropic
        } else if any(&|map| matches!(role(map).as_str(), "user" | "assistant" | "system" | "developer")) {
            Self::OpenAiChat
        } else {
            Self::Plain
        }
    }

    /// The format of a log whose messages stand in `field`.
    pub(super) fn of_object(map: &Map<String, Value>, field: &str, messages: &[Value]) -> Self {
        match Self::of(messages) {
            _ if field == "trajectory" => Self::Plain,
            Self::OpenAiChat if field == "input" => Self::OpenAiResponses,
            Self::OpenAiChat if map.contains_key("system") => Self::Anthropic,
            other => other,
        }
    }
}

/// Blocks that Anthropic's messages alone have.
fn anthropic(message: &Map<String, Value>) -> bool {
    let kinds = ["tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use"];
    let Some(Value::Array(blocks)) = message.get("content") else { return false };
    let kind = |block: &Value| block.get("type").and_then(Value::as_str).map(str::to_owned);
    blocks.iter().filter_map(kind).any(|kind| kinds.contains(&kind.as_str()))
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
