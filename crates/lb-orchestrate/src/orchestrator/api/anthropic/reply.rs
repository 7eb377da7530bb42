//! What comes back.

use serde_json::Value;

use super::super::dialect::{self, Dialect, Progress, Stream, count, filled};
use super::super::failure::{Failure, tidy};
use super::super::refusal;
use crate::{Completion, Finish, Usage};

/// Anthropic's messages.
pub(in super::super) struct AnthropicDialect;

/// A message, whole or put together.
#[derive(Debug, Default)]
pub(in super::super) struct Reply {
    text: String,
    reasoning: String,
    stop: Option<String>,
    tokens: Tokens,
    begun: bool,
    done: bool,
}

/// Counts of tokens as the API has them: what was read from the cache, written to it, and neither.
#[derive(Debug, Default)]
struct Tokens {
    input: Option<usize>,
    cache_read: Option<usize>,
    cache_written: Option<usize>,
    output: Option<usize>,
}

impl Dialect for AnthropicDialect {
    const SERVICE: &'static str = "anthropic";
    const KEY_CHECK: &'static str = "check the key in ANTHROPIC_API_KEY, or the `key` of the config";
    type Stream = Reply;

    fn whole(message: &Value) -> Result<Completion, Failure> {
        let mut reply = Reply::default();
        let blocks = message.get("content").and_then(Value::as_array);
        for block in blocks.ok_or(Failure::Missing { field: "content" })? {
            reply.take(block);
        }
        reply.tokens.take(message.get("usage"));
        reply.take_stop(message);
        Ok(reply.completion())
    }
}

impl Stream for Reply {
    fn event(&mut self, data: &[u8]) -> Result<Progress, Failure> {
        let event = dialect::json(data)?;
        if let Some(failure) = refusal::in_reply(&event, AnthropicDialect::KEY_CHECK) {
            return Err(failure);
        }
        match event.get("type").and_then(Value::as_str) {
            Some("message_start") => {
                self.begun = true;
                self.tokens.take(event.get("message").and_then(|message| message.get("usage")));
                // What has been generated is only known at the end.
                self.tokens.output = None;
            }
            Some("content_block_start") => {
                if let Some(block) = event.get("content_block") {
                    self.take(block);
                }
            }
            Some("content_block_delta") => {
                if let Some(delta) = event.get("delta") {
                    self.take(delta);
                }
            }
            Some("message_delta") => {
                self.tokens.take(event.get("usage"));
                if let Some(delta) = event.get("delta") {
                    self.take_stop(delta);
                }
            }
            Some("message_stop") => {
                self.done = true;
                return Ok(Progress::Done);
            }
            // Pings, and events that are yet to come.
            _ => {}
        }
        Ok(Progress::More)
    }

    fn finish(self) -> Result<Option<Completion>, Failure> {
        if self.done && !self.begun {
            return Err(Failure::Missing { field: "message_start" });
        }
        Ok(self.done.then(|| self.completion()))
    }
}

impl Tokens {
    fn take(&mut self, usage: Option<&Value>) {
        let Some(usage) = usage else { return };
        for (name, field) in [
            ("input_tokens", &mut self.input),
            ("cache_read_input_tokens", &mut self.cache_read),
            ("cache_creation_input_tokens", &mut self.cache_written),
            ("output_tokens", &mut self.output),
        ] {
            *field = count(usage.get(name)).or(*field);
        }
    }

    fn usage(&self) -> Usage {
        let (Some(input), Some(output)) = (self.input, self.output) else {
            return Usage { unreported: 1, ..Usage::default() };
        };
        let (cached, cache_written) = (self.cache_read.unwrap_or(0), self.cache_written.unwrap_or(0));
        let input = input.saturating_add(cached).saturating_add(cache_written);
        Usage { input, cached, cache_written, output, ..Usage::default() }
    }
}

impl Reply {
    /// Takes a block, or a piece of one.
    fn take(&mut self, block: &Value) {
        let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match block.get("type").and_then(Value::as_str) {
            Some("text" | "text_delta") => self.text.push_str(text("text")),
            Some("thinking" | "thinking_delta") => self.reasoning.push_str(text("thinking")),
            _ => {}
        }
    }

    fn take_stop(&mut self, holder: &Value) {
        if let Some(stop) = holder.get("stop_reason").and_then(Value::as_str) {
            self.stop = Some(stop.to_string());
        }
    }

    fn completion(self) -> Completion {
        let finish = match self.stop.as_deref() {
            None | Some("end_turn" | "stop_sequence") => Finish::Stop,
            Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
            Some(other) => Finish::Other(tidy(other)),
        };
        let usage = self.tokens.usage();
        Completion {
            text: self.text,
            reasoning: filled(self.reasoning),
            usage,
            finish,
            ..Completion::default()
        }
    }
}
