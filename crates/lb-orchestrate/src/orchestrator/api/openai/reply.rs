//! What comes back.

use serde_json::Value;

use super::super::dialect::{self, Dialect, Progress, Stream, count, filled};
use super::super::failure::{Failure, tidy};
use super::super::refusal;
use crate::orchestrator::thoughts;
use crate::{Completion, Finish, Usage};

/// Chat completions.
pub(in super::super) struct OpenAiDialect;

/// One choice, whole or put together.
#[derive(Debug, Default)]
pub(in super::super) struct Choice {
    text: Option<String>,
    reasoning: String,
    refusal: String,
    finish: Option<String>,
    usage: Option<Usage>,
    has_calls: bool,
    /// Whether there was a choice at all.
    seen: bool,
    /// Whether a stream came to its end.
    done: bool,
}

impl Dialect for OpenAiDialect {
    const SERVICE: &'static str = "openai";
    const KEY_CHECK: &'static str = "check the key in OPENAI_API_KEY, or the `key` of the config";
    type Stream = Choice;

    fn whole(reply: &Value) -> Result<Completion, Failure> {
        let mut choice = Choice::default();
        choice.take(reply, "message");
        if !choice.seen {
            return Err(Failure::Missing { field: "choices" });
        }
        choice.completion()
    }
}

impl Stream for Choice {
    fn event(&mut self, data: &[u8]) -> Result<Progress, Failure> {
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return Ok(Progress::Done);
        }
        let chunk = dialect::json(data)?;
        if let Some(failure) = refusal::in_reply(&chunk, OpenAiDialect::KEY_CHECK) {
            return Err(failure);
        }
        self.take(&chunk, "delta");
        Ok(Progress::More)
    }

    /// Not every server ends with `[DONE]`; a reason to finish in a stream that ends in good order will do.
    fn finish(self) -> Result<Option<Completion>, Failure> {
        if !self.done && self.finish.is_none() {
            return Ok(None);
        }
        if !self.seen {
            return Err(Failure::Missing { field: "choices" });
        }
        Self { done: true, ..self }.completion().map(Some)
    }
}

impl Choice {
    /// Takes the first choice of a reply, or its next piece.
    fn take(&mut self, reply: &Value, part: &str) {
        if let Some(usage) = reply.get("usage").and_then(usage) {
            self.usage = Some(usage);
        }
        let Some(choice) = reply.get("choices").and_then(|choices| choices.get(0)) else { return };
        self.seen = true;
        if let Some(finish) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(finish.to_string());
        }
        let Some(message) = choice.get(part) else { return };
        match message.get("content") {
            Some(Value::String(text)) => self.text.get_or_insert_default().push_str(text),
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.take_part(part)),
            _ => {}
        }
        for name in ["reasoning_content", "reasoning"] {
            if let Some(text) = message.get(name).and_then(Value::as_str) {
                self.reasoning.push_str(text);
                break;
            }
        }
        if let Some(text) = message.get("refusal").and_then(Value::as_str) {
            self.refusal.push_str(text);
        }
        self.has_calls |= message.get("tool_calls").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
    }

    /// Content in parts: text, and thoughts that are parts in turn.
    fn take_part(&mut self, part: &Value) {
        let text = |name: &str| part.get(name).and_then(Value::as_str).unwrap_or_default();
        match part.get("type").and_then(Value::as_str) {
            Some("text" | "output_text") => self.text.get_or_insert_default().push_str(text("text")),
            Some("refusal") => self.refusal.push_str(text("refusal")),
            Some("thinking") => match part.get("thinking") {
                Some(Value::Array(parts)) => {
                    let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
                    self.reasoning.extend(texts);
                }
                _ => self.reasoning.push_str(text("thinking")),
            },
            _ => {}
        }
    }

    fn completion(self) -> Result<Completion, Failure> {
        let finish = match self.finish.as_deref() {
            _ if !self.refusal.is_empty() => Finish::Other("refusal".to_string()),
            None | Some("stop" | "eos" | "end_turn") => Finish::Stop,
            Some("length" | "max_tokens") => Finish::Length,
            Some(other) => Finish::Other(tidy(other)),
        };
        let said_nothing =
            self.text.is_none() && self.reasoning.is_empty() && self.refusal.is_empty() && !self.has_calls;
        // A stream may end before its first token; a message without content is a broken one.
        if said_nothing && finish == Finish::Stop && !self.done {
            return Err(Failure::Missing { field: "choices[0].message.content" });
        }
        let text = self.text.unwrap_or_default();
        // Servers that do not know a model's thoughts leave them in its text.
        let (inline, answer) = thoughts::split(&text, false);
        let reasoning = filled(self.reasoning).or_else(|| inline.map(str::to_string));
        let answer = if answer.is_empty() { self.refusal } else { answer.to_string() };
        let usage = self.usage.unwrap_or(Usage { unreported: 1, ..Usage::default() });
        Ok(Completion { text: answer, reasoning, usage, finish, ..Completion::default() })
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    let input = count(usage.get("prompt_tokens"))?;
    let output = count(usage.get("completion_tokens"))?;
    let prompt = |name| count(usage.get("prompt_tokens_details").and_then(|details| details.get(name)));
    let completion =
        |name| count(usage.get("completion_tokens_details").and_then(|details| details.get(name)));
    let cached = prompt("cached_tokens").or_else(|| count(usage.get("prompt_cache_hit_tokens")));
    Some(Usage {
        input,
        cached: cached.unwrap_or(0).min(input),
        cache_written: prompt("cache_write_tokens").unwrap_or(0).min(input),
        output,
        reasoning: completion("reasoning_tokens").unwrap_or(0).min(output),
        unreported: 0,
    })
}
