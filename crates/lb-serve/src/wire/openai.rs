//! OpenAI's requests and answers, as JSON.

use lb_model::{Conversation, Message};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::briefing::BriefingField;
use super::calls::called;
use super::sampling::{Sampling, Texts};
use crate::Refusal;
use crate::engine::{Finish, Told, Usage};

/// `POST /v1/chat/completions`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    pub(crate) model: Option<String>,
    /// The conversation; content is text.
    #[schema(value_type = Vec<Object>)]
    pub(crate) messages: Value,
    /// Functions that the model may call, for its chat template.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) tools: Option<Value>,
    /// Whether the model may think before it answers, where its template knows.
    pub(crate) enable_thinking: Option<bool>,
    #[schema(value_type = Option<Object>)]
    pub(crate) chat_template_kwargs: Option<Map<String, Value>>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    /// Log-probabilities of the tokens of the answer.
    pub(crate) logprobs: Option<bool>,
    /// And of so many of the likeliest in each place.
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) briefing: Option<BriefingField>,
    // These nine are written out in both requests: behind serde's `flatten` an error could not name its field.
    /// Tokens of an answer at most.
    max_tokens: Option<usize>,
    /// The newer name of the same.
    max_completion_tokens: Option<usize>,
    /// 0, the default, is greedy.
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    /// Same seed, same answer. Drawn by lot where it is missing.
    seed: Option<i64>,
    /// Texts that end an answer; they are not in it.
    stop: Option<Texts>,
    /// How many answers, each with a seed of its own.
    n: Option<usize>,
    /// Go on where the model would end, for measuring.
    ignore_eos: Option<bool>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub(crate) rest: Map<String, Value>,
}

/// `POST /v1/completions`.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    pub(crate) model: Option<String>,
    /// A text, a list of one text, or a list of tokens.
    #[schema(value_type = Object)]
    pub(crate) prompt: Value,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    /// Log-probabilities of the tokens of the answer, and of so many of the likeliest in each place.
    pub(crate) logprobs: Option<usize>,
    pub(crate) briefing: Option<BriefingField>,
    /// Tokens of an answer at most.
    max_tokens: Option<usize>,
    /// The newer name of the same.
    max_completion_tokens: Option<usize>,
    /// 0, the default, is greedy.
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    /// Same seed, same answer. Drawn by lot where it is missing.
    seed: Option<i64>,
    /// Texts that end an answer; they are not in it.
    stop: Option<Texts>,
    /// How many answers, each with a seed of its own.
    n: Option<usize>,
    /// Go on where the model would end, for measuring.
    ignore_eos: Option<bool>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub(crate) rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Whether a last chunk tells what the answer cost.
    pub(crate) include_usage: Option<bool>,
}

/// What both requests say of an answer.
macro_rules! sampling {
    ($request:ident) => {
        impl $request {
            pub(crate) fn sampling(&self) -> Sampling {
                Sampling {
                    max_tokens: self.max_tokens,
                    max_completion_tokens: self.max_completion_tokens,
                    temperature: self.temperature,
                    top_p: self.top_p,
                    top_k: self.top_k,
                    seed: self.seed,
                    stop: self.stop.clone(),
                    n: self.n,
                    ignore_eos: self.ignore_eos,
                }
            }
        }
    };
}

sampling!(ChatRequest);
sampling!(CompletionRequest);

impl ChatRequest {
    /// The conversation for the chat template.
    pub(crate) fn conversation(&self) -> Result<Conversation, Refusal> {
        let mut fields = Map::from_iter([("messages".to_owned(), self.messages.clone())]);
        if let Some(tools) = &self.tools {
            fields.insert("tools".to_owned(), tools.clone());
        }
        let wanted = self.chat_template_kwargs.as_ref().and_then(|kwargs| kwargs.get("enable_thinking"));
        if let Some(thinking) = wanted.cloned().or(self.enable_thinking.map(Value::Bool)) {
            fields.insert("enable_thinking".to_owned(), thinking);
        }
        conversation(fields)
    }
}

/// A conversation of `messages` and what else is said for the template.
pub(crate) fn conversation(fields: Map<String, Value>) -> Result<Conversation, Refusal> {
    let mut conversation = Conversation::from_json(Value::Object(fields).to_string().as_bytes())?;
    conversation.messages.iter_mut().for_each(of_today);
    Ok(conversation)
}

/// `developer` is OpenAI's newer word for `system`, which templates know.
fn of_today(message: &mut Message) {
    if message.role == "developer" {
        "system".clone_into(&mut message.role);
    }
}

/// Which protocol's objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Completion,
}

/// What every object of an answer begins with.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

/// An answer of several, as far as it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Told>,
    pub(crate) finish: Option<Finish>,
    pub(crate) generated: usize,
}

fn word(finish: &Finish) -> &'static str {
    match finish {
        Finish::End | Finish::Stop(_) => "stop",
        Finish::Length => "length",
    }
}

/// OpenAI's sums, with ours beside them.
pub(crate) fn usage(usage: &Usage, generated: usize) -> Value {
    json!({
        "prompt_tokens": usage.attended,
        "completion_tokens": generated,
        "total_tokens": usage.attended + generated,
        "prompt_tokens_details": { "cached_tokens": usage.reused },
        "latent_briefing": usage,
    })
}

impl Head {
    /// The whole answer.
    pub(crate) fn whole(&self, choices: &[Choice], cost: &Usage, tools: &[String]) -> Value {
        let generated = choices.iter().map(|choice| choice.generated).sum();
        let choices: Vec<Value> =
            choices.iter().enumerate().map(|(index, choice)| self.choice(index, choice, tools)).collect();
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Completion => "text_completion",
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": null, "choices": choices, "usage": usage(cost, generated),
        })
    }

    fn choice(&self, index: usize, choice: &Choice, tools: &[String]) -> Value {
        let finish = choice.finish.as_ref().map_or("stop", word);
        match self.kind {
            Kind::Completion => json!({
                "index": index, "text": choice.text, "finish_reason": finish,
                "logprobs": log_probs(self.kind, &choice.tokens, 0),
            }),
            Kind::Chat => {
                let (text, calls) = if tools.is_empty() {
                    (choice.text.clone(), Vec::new())
                } else {
                    called(&choice.text, tools)
                };
                let mut message = json!({ "role": "assistant", "content": text, "refusal": null });
                let mut finish = finish;
                if !calls.is_empty() {
                    if text.is_empty() {
                        message["content"] = Value::Null;
                    }
                    message["tool_calls"] = calls.into();
                    finish = "tool_calls";
                }
                json!({
                    "index": index, "message": message, "finish_reason": finish,
                    "logprobs": log_probs(self.kind, &choice.tokens, 0),
                })
            }
        }
    }

    fn chunk(&self, choices: &Value) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": null, "choices": choices,
        })
    }

    /// The first chunk of an answer, where the protocol has one.
    pub(crate) fn opening(&self, choice: usize) -> Option<Value> {
        (self.kind == Kind::Chat).then(|| {
            let delta = json!({ "role": "assistant", "content": "" });
            self.chunk(&json!([{ "index": choice, "delta": delta, "logprobs": null, "finish_reason": null }]))
        })
    }

    /// A piece of an answer; `offset` characters came before it.
    pub(crate) fn piece(&self, choice: usize, text: &str, tokens: &[Told], offset: usize) -> Value {
        let log_probs = log_probs(self.kind, tokens, offset);
        self.chunk(&match self.kind {
            Kind::Chat => json!([{
                "index": choice, "delta": { "content": text }, "logprobs": log_probs, "finish_reason": null,
            }]),
            Kind::Completion => {
                json!([{ "index": choice, "text": text, "logprobs": log_probs, "finish_reason": null }])
            }
        })
    }

    /// Functions that an answer calls.
    pub(crate) fn calls(&self, choice: usize, mut calls: Vec<Value>) -> Value {
        for (index, call) in calls.iter_mut().enumerate() {
            call["index"] = index.into();
        }
        let delta = json!({ "tool_calls": calls });
        self.chunk(&json!([{ "index": choice, "delta": delta, "logprobs": null, "finish_reason": null }]))
    }

    /// The last chunk of an answer.
    pub(crate) fn closing(&self, choice: usize, finish: &Finish, calls: bool) -> Value {
        let finish = if calls { "tool_calls" } else { word(finish) };
        self.chunk(&match self.kind {
            Kind::Chat => {
                json!([{ "index": choice, "delta": {}, "logprobs": null, "finish_reason": finish }])
            }
            Kind::Completion => {
                json!([{ "index": choice, "text": "", "logprobs": null, "finish_reason": finish }])
            }
        })
    }

    /// The chunk that tells what it cost.
    pub(crate) fn cost(&self, cost: &Usage, generated: usize) -> Value {
        let mut chunk = self.chunk(&json!([]));
        chunk["usage"] = usage(cost, generated);
        chunk
    }
}

#[derive(Serialize)]
struct TokenProb<'a> {
    token: &'a str,
    logprob: f32,
    bytes: &'a [u8],
}

fn log_probs(kind: Kind, tokens: &[Told], offset: usize) -> Value {
    if tokens.is_empty() {
        return Value::Null;
    }
    let entry =
        |token: &str, log_prob: f32| json!(TokenProb { token, logprob: log_prob, bytes: token.as_bytes() });
    match kind {
        Kind::Chat => {
            let content = tokens.iter().map(|told| {
                let mut one = entry(&told.token.text, told.log_prob);
                one["top_logprobs"] =
                    told.likeliest.iter().map(|(token, lp)| entry(&token.text, *lp)).collect();
                one
            });
            json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
        }
        Kind::Completion => {
            let mut at = offset;
            let mut offsets = Vec::with_capacity(tokens.len());
            for told in tokens {
                offsets.push(at);
                at += told.token.text.chars().count();
            }
            let likeliest = tokens.iter().map(|told| {
                told.likeliest
                    .iter()
                    .map(|(token, lp)| (token.text.clone(), json!(lp)))
                    .collect::<Map<_, _>>()
            });
            json!({
                "tokens": tokens.iter().map(|told| told.token.text.as_str()).collect::<Vec<_>>(),
                "token_logprobs": tokens.iter().map(|told| told.log_prob).collect::<Vec<_>>(),
                "top_logprobs": likeliest.collect::<Vec<_>>(),
                "text_offset": offsets,
            })
        }
    }
}
