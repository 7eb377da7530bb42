//! Anthropic's messages.

mod reply;
mod request;

use std::fmt;

use serde_json::{Map, Value};
use ureq::http::{HeaderName, HeaderValue};

use super::super::guard::TurnGuard;
use super::config::{self, Connection, Effort};
use super::endpoint::{self, Endpoint};
use super::exchange::{Exchange, Stop};
use super::habits::unwanted;
use super::key::ApiKey;
use crate::{ChatRequest, Completion, Error, Orchestrator, Result};

pub(super) use reply::AnthropicDialect;

const BASE_URL: &str = "https://api.anthropic.com";
const KEY: &str = "ANTHROPIC_API_KEY";
const VERSION: &str = "2023-06-01";

/// How to reach and ask Anthropic, or a service that speaks its messages.
#[derive(Clone, Debug, PartialEq)]
pub struct AnthropicConfig {
    /// Without `/v1/messages`. Default: `https://api.anthropic.com`.
    pub base_url: String,
    /// The model's name.
    pub model: String,
    /// The key. A server on this machine may do without one. Default: none.
    pub key: Option<ApiKey>,
    /// Most tokens of a turn where the request names none, thoughts included. Default: 16,384.
    pub max_tokens: usize,
    /// 0 or more; newer models refuse it, and are then asked again without. Default: the model's own.
    pub temperature: Option<f64>,
    /// `output_config.effort`. Default: the model's own.
    pub effort: Option<Effort>,
    /// Whether it thinks first. Default: [`AnthropicThinking::Model`].
    pub thinking: AnthropicThinking,
    /// Default: [`PromptCache::On`].
    pub prompt_cache: PromptCache,
    /// Further fields of the request; they win over the fields above.
    pub extra: Map<String, Value>,
    /// Timeouts, retries, streaming.
    pub connection: Connection,
}

/// Whether a Claude model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnthropicThinking {
    /// As the model does by itself.
    #[default]
    Model,
    /// As much as the model finds right, led by the effort.
    Adaptive,
    /// So many tokens at most, for older models. Less than `max_tokens`, at least 1,024.
    Budget(usize),
    /// Not at all.
    Off,
}

/// Whether the conversation is kept in the provider's prompt cache. Conversations here only grow at their end, so each
/// turn reads what the last one wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptCache {
    /// The system text and the last message are marked (`cache_control`).
    #[default]
    On,
    /// Nothing is marked.
    Off,
}

impl AnthropicConfig {
    /// Anthropic itself, without a key yet.
    pub fn new(model: impl Into<String>) -> Self {
        Self::at(BASE_URL, model)
    }

    /// Another server. Nothing is read from the environment.
    pub fn at(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            key: None,
            max_tokens: 16_384,
            temperature: None,
            effort: None,
            thinking: AnthropicThinking::Model,
            prompt_cache: PromptCache::On,
            extra: Map::new(),
            connection: Connection::default(),
        }
    }

    /// The address in `ANTHROPIC_BASE_URL` (Anthropic where it is not set) and the key in `ANTHROPIC_API_KEY`.
    ///
    /// # Errors
    /// Those of [`ApiKey::from_env`]; [`Error::Config`] for an address that is no text.
    pub fn from_env(model: impl Into<String>) -> Result<Self> {
        let base_url = endpoint::from_env("ANTHROPIC_BASE_URL")?.unwrap_or_else(|| BASE_URL.to_string());
        Ok(Self { key: ApiKey::from_env(KEY)?, ..Self::at(base_url, model) })
    }
}

/// A model behind Anthropic's messages.
pub struct Anthropic {
    config: AnthropicConfig,
    exchange: Exchange<AnthropicDialect>,
    /// Fields that the model was found to refuse.
    without: Vec<&'static str>,
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anthropic").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Anthropic {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field: the base URL, a missing key for a server that is not on this machine, a
    /// number out of range, an `extra` field that the client sets itself. [`Error::Empty`] without a model.
    pub fn new(config: AnthropicConfig) -> Result<Self> {
        config::check_request(&config.model, config.temperature, &config.extra)?;
        if config.max_tokens == 0 {
            return Err(Error::config("max_tokens", 0, "at least 1"));
        }
        if let AnthropicThinking::Budget(budget) = config.thinking
            && !(1024..config.max_tokens).contains(&budget)
        {
            return Err(Error::config("thinking", budget, "at least 1,024 and less than max_tokens"));
        }
        let endpoint = Endpoint::new(&config.base_url, "/v1/messages")?;
        if config.key.is_none() && !endpoint.is_loopback {
            return Err(Error::config(KEY, "(not set)", "this service wants a key"));
        }
        let mut headers =
            vec![(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(VERSION))];
        if let Some(key) = &config.key {
            headers.push((HeaderName::from_static("x-api-key"), key.header("")?));
        }
        let exchange = Exchange::new(endpoint, config.key.clone(), headers, config.connection)?;
        Ok(Self { config, exchange, without: Vec::new() })
    }

    /// The address of the messages.
    pub fn url(&self) -> &str {
        &self.exchange.endpoint().url
    }
}

impl Orchestrator for Anthropic {
    fn model(&self) -> &str {
        &self.config.model
    }

    fn backend(&self) -> &'static str {
        "anthropic"
    }

    /// # Errors
    /// [`Error::Api`] with the failure of the last request, [`Error::Cancelled`], [`Error::Timeout`]; [`Error::Config`]
    /// where the log would show the key, see [`api`](crate::api).
    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        let guard = TurnGuard::of(request);
        let (mut without, mut sent) = (self.without.clone(), 0);
        loop {
            let mut body = request::body(&self.config, request)?;
            if let Some(fields) = body.as_object_mut() {
                fields.retain(|name, _| !without.contains(&name.as_str()));
            }
            match self.exchange.turn(&body, &guard, sent) {
                Ok(completion) => {
                    if without != self.without {
                        log::warn!("{}: from now on without {}", self.url(), without.join(", "));
                    }
                    self.without = without;
                    return Ok(completion);
                }
                Err(Stop::Failed(failure, so_far)) => match unwanted(&failure, &body) {
                    Some(field) => {
                        without.push(field);
                        sent = so_far;
                    }
                    None => return Err(self.exchange.error(Stop::Failed(failure, so_far))),
                },
                Err(stop) => return Err(self.exchange.error(stop)),
            }
        }
    }
}
