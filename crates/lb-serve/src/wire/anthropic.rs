//! Anthropic's requests and answers, as JSON.

use lb_model::{Conversation, GenerateOptions, Worker};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::briefing::BriefingField;
use super::calls::called;
use super::sampling::{Sampling, Texts, stops};
use crate::Refusal;
use crate::engine::{Finish, Spoken, Usage};

/// `POST /v1/messages`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MessagesRequest {
    pub(crate) model: Option<String>,
    /// Turns of text, tool uses and tool results.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    /// A text, or blocks of text.
    #[schema(value_type = Option<Object>)]
    system: Option<Value>,
    /// Tokens of the answer at most; only counting does without.
    max_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    stop_sequences: Option<Vec<String>>,
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
    pub(crate) stream: Option<bool>,
    pub(crate) briefing: Option<BriefingField>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub(crate) rest: Map<String, Value>,
}

impl MessagesRequest {
    /// The names of the tools that it offers.
    pub(crate) fn tools(&self) -> Vec<String> {
        let name = |tool: &Value| tool.get("name")?.as_str().map(str::to_owned);
        self.tools.iter().flatten().filter_map(name).collect()
    }

    pub(crate) fn spoken(&self, worker: &Worker) -> Result<Spoken, Refusal> {
        let max = self.max_tokens.ok_or_else(|| Refusal::field("max_tokens", "missing"))?;
        let sampling = Sampling {
            max_tokens: Some(max),
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            ..Sampling::default()
        };
        let room = super::sampling::Room { usual: GenerateOptions::default().max_new_tokens };
        let stop = self.stop_sequences.clone().map(Texts::Many);
        Ok(Spoken { stops: stops("stop_sequences", stop)?, ..sampling.spoken(worker, room, None)? })
    }

    /// The conversation for the chat template.
    pub(crate) fn conversation(&self) -> Result<Conversation, Refusal> {
        let mut messages = Vec::new();
        if let Some(system) = self.system.as_ref().filter(|system| !system.is_null()) {
            messages.push(json!({ "role": "system", "content": texts("system", system)? }));
        }
        for (index, message) in self.messages.iter().enumerate() {
            turn(index, message, &mut messages)?;
        }
        let mut fields = Map::from_iter([("messages".to_owned(), Value::from(messages))]);
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            let tools = self.tools.iter().flatten().enumerate().map(|(index, tool)| function(index, tool));
            fields.insert("tools".to_owned(), tools.collect::<Result<Vec<_>, _>>()?.into());
        }
        Ok(Conversation::from_json(Value::Object(fields).to_string().as_bytes())?)
    }
}

/// A tool as chat templates know it.
fn function(index: usize, tool: &Value) -> Result<Value, Refusal> {
    let name = tool.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| Refusal::field(format!("tools[{index}].name"), "missing"))?;
    let Some(parameters) = tool.get("input_schema") else {
        let reason = "only tools with an input_schema, which the client runs";
        return Err(Refusal::unsupported(format!("tools[{index}]"), reason));
    };
    let description = tool.get("description").cloned().unwrap_or_default();
    let function = json!({ "name": name, "description": description, "parameters": parameters });
    Ok(json!({ "type": "function", "function": function }))
}

/// A text, or the texts of blocks.
fn texts(field: &str, content: &Value) -> Result<String, Refusal> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => {
            let text = |(index, block): (usize, &Value)| match (
                block.get("type").and_then(Value::as_str),
                block.get("text"),
            ) {
                (Some("text"), Some(Value::String(text))) => Ok(text.clone()),
                (kind, _) => {
                    let reason =
                        format!("a block of type {:?}; the worker reads text", kind.unwrap_or("none"));
                    Err(Refusal::unsupported(format!("{field}[{index}]"), reason))
                }
            };
            let texts = blocks.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?;
            Ok(texts.join("\n"))
        }
        _ => Err(Refusal::field(field, "want a text or a list of blocks")),
    }
}

/// A turn as chat templates know it: results of tools are messages of their own.
fn turn(index: usize, message: &Value, into: &mut Vec<Value>) -> Result<(), Refusal> {
    let field = format!("messages[{index}]");
    let role = message.get("role").and_then(Value::as_str);
    let role = role.ok_or_else(|| Refusal::field(format!("{field}.role"), "missing"))?;
    if !matches!(role, "user" | "assistant") {
        return Err(Refusal::field(format!("{field}.role"), "want user or assistant"));
    }
    let content =
        message.get("content").ok_or_else(|| Refusal::field(format!("{field}.content"), "missing"))?;
    let Value::Array(blocks) = content else {
        into.push(json!({ "role": role, "content": texts(&format!("{field}.content"), content)? }));
        return Ok(());
    };
    let (mut said, mut calls) = (Vec::new(), Vec::new());
    for (number, block) in blocks.iter().enumerate() {
        let field = format!("{field}.content[{number}]");
        match block.get("type").and_then(Value::as_str) {
            Some("tool_use") => {
                let name = block.get("name").cloned().unwrap_or_default();
                let arguments = block.get("input").cloned().unwrap_or_else(|| json!({}));
                calls.push(json!({
                    "id": block.get("id"), "type": "function",
                    "function": { "name": name, "arguments": arguments },
                }));
            }
            Some("tool_result") => {
                let empty = Value::from("");
                let result = texts(&format!("{field}.content"), block.get("content").unwrap_or(&empty))?;
                into.push(
                    json!({ "role": "tool", "tool_call_id": block.get("tool_use_id"), "content": result }),
                );
            }
            // What a model thought before is not said again.
            Some("thinking" | "redacted_thinking") => {}
            _ => said.push(texts(&field, &json!([block]))?),
        }
    }
    if !said.is_empty() || !calls.is_empty() {
        let mut turn = json!({ "role": role, "content": said.join("\n") });
        if !calls.is_empty() {
            turn["tool_calls"] = calls.into();
        }
        into.push(turn);
    }
    Ok(())
}

fn word(finish: &Finish, calls: bool) -> (&'static str, Value) {
    match finish {
        _ if calls => ("tool_use", Value::Null),
        Finish::End => ("end_turn", Value::Null),
        Finish::Stop(stop) => ("stop_sequence", stop.clone().into()),
        Finish::Length => ("max_tokens", Value::Null),
    }
}

fn usage(usage: &Usage, generated: usize) -> Value {
    json!({
        "input_tokens": usage.attended.saturating_sub(usage.reused),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.reused,
        "output_tokens": generated,
        "latent_briefing": usage,
    })
}

/// The blocks of an answer.
fn blocks(text: &str, tools: &[String]) -> (Vec<Value>, bool) {
    let (said, calls) = if tools.is_empty() { (text.to_owned(), Vec::new()) } else { called(text, tools) };
    let mut blocks = Vec::new();
    if !said.is_empty() || calls.is_empty() {
        blocks.push(json!({ "type": "text", "text": said }));
    }
    let any = !calls.is_empty();
    for call in calls {
        let arguments = call["function"]["arguments"].as_str().unwrap_or("{}");
        let input = serde_json::from_str::<Value>(arguments).unwrap_or_else(|_| json!({}));
        blocks.push(json!({
            "type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": input,
        }));
    }
    (blocks, any)
}

/// The whole answer.
pub(crate) fn whole(
    id: &str,
    model: &str,
    (text, tools): (&str, &[String]),
    finish: &Finish,
    cost: (&Usage, usize),
) -> Value {
    let (content, calls) = blocks(text, tools);
    let (reason, sequence) = word(finish, calls);
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": reason, "stop_sequence": sequence, "usage": usage(cost.0, cost.1),
    })
}

/// Events of a stream, each with its name.
pub(crate) type Named = (&'static str, Value);

pub(crate) fn opening(id: &str, model: &str, cost: &Usage) -> Named {
    let message = json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(cost, 0),
    });
    ("message_start", json!({ "type": "message_start", "message": message }))
}

pub(crate) fn block_opening() -> Named {
    let block = json!({ "type": "text", "text": "" });
    ("content_block_start", json!({ "type": "content_block_start", "index": 0, "content_block": block }))
}

pub(crate) fn piece(text: &str) -> Named {
    let delta = json!({ "type": "text_delta", "text": text });
    ("content_block_delta", json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
}

pub(crate) fn block_closing(index: usize) -> Named {
    ("content_block_stop", json!({ "type": "content_block_stop", "index": index }))
}

/// An answer with tools as the events of its blocks: what it calls is known at its end.
pub(crate) fn with_tools(text: &str, tools: &[String]) -> (Vec<Named>, bool) {
    let (blocks, calls) = blocks(text, tools);
    let mut events = Vec::new();
    for (index, block) in blocks.into_iter().enumerate() {
        let (empty, delta) = if block["type"] == "text" {
            (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": block["text"] }))
        } else {
            let mut empty = block.clone();
            empty["input"] = json!({});
            (empty, json!({ "type": "input_json_delta", "partial_json": block["input"].to_string() }))
        };
        events.push((
            "content_block_start",
            json!({ "type": "content_block_start", "index": index, "content_block": empty }),
        ));
        events.push((
            "content_block_delta",
            json!({ "type": "content_block_delta", "index": index, "delta": delta }),
        ));
        events.push(block_closing(index));
    }
    (events, calls)
}

pub(crate) fn closing(finish: &Finish, calls: bool, generated: usize) -> [Named; 2] {
    let (reason, sequence) = word(finish, calls);
    let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
    let end = json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": generated } });
    [("message_delta", end), ("message_stop", json!({ "type": "message_stop" }))]
}
