//! Chat completions as OpenAI has them, and as many others do.

mod habits;
mod reply;
mod request;

use std::fmt;

use serde_json::{Map, Value};
use ureq::http::header;

use super::super::guard::TurnGuard;
use super::config::{self, Connection, Effort};
use super::endpoint::{self, Endpoint};
use super::exchange::{Exchange, Stop};
use super::key::ApiKey;
use crate::{ChatRequest, Completion, Error, Orchestrator, Result};

use habits::Habits;
pub(super) use reply::OpenAiDialect;

const BASE_URL: &str = "https://api.openai.com/v1";
const HOST: &str = "api.openai.com";
const KEY: &str = "OPENAI_API_KEY";

/// How to reach and ask a service that speaks OpenAI's chat completions: OpenAI, OpenRouter, vLLM, llama.cpp's server,
/// Ollama, `transformers serve`.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAiConfig {
    /// Up to and with `/v1`. Default: `https://api.openai.com/v1`.
    pub base_url: String,
    /// The model's name, as the service has it.
    pub model: String,
    /// The key. A server on this machine may do without one. Default: none.
    pub key: Option<ApiKey>,
    /// Most tokens of a turn where the request names none, thoughts included. Default: the service's own limit.
    pub max_tokens: Option<usize>,
    /// The field that carries the limit. Default: [`TokenLimit::ByHost`].
    pub token_limit: TokenLimit,
    /// 0 or more; models that think refuse it, and are then asked again without. Default: the service's own.
    pub temperature: Option<f64>,
    /// `reasoning_effort`. Default: the model's own.
    pub effort: Option<Effort>,
    /// Further fields of the request, for what a service has of its own; they win over the fields above.
    pub extra: Map<String, Value>,
    /// Timeouts, retries, streaming.
    pub connection: Connection,
}

/// The field of a request that limits the tokens of a turn. Where the server refuses one by name, the other is tried
/// once, and kept if that works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenLimit {
    /// `max_completion_tokens` for api.openai.com, `max_tokens` for everyone else.
    #[default]
    ByHost,
    /// `max_tokens`, which all servers but OpenAI's newer models know.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

impl OpenAiConfig {
    /// OpenAI itself, without a key yet.
    pub fn new(model: impl Into<String>) -> Self {
        Self::at(BASE_URL, model)
    }

    /// Another server; `base_url` ends with `/v1` as a rule. Nothing is read from the environment, so that a key for
    /// OpenAI does not go elsewhere by accident.
    pub fn at(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            key: None,
            max_tokens: None,
            token_limit: TokenLimit::ByHost,
            temperature: None,
            effort: None,
            extra: Map::new(),
            connection: Connection::default(),
        }
    }

    /// The address in `OPENAI_BASE_URL` (OpenAI where it is not set) and the key in `OPENAI_API_KEY`.
    ///
    /// # Errors
    /// Those of [`ApiKey::from_env`]; [`Error::Config`] for an address that is no text.
    pub fn from_env(model: impl Into<String>) -> Result<Self> {
        let base_url = endpoint::from_env("OPENAI_BASE_URL")?.unwrap_or_else(|| BASE_URL.to_string());
        Ok(Self { key: ApiKey::from_env(KEY)?, ..Self::at(base_url, model) })
    }
}

/// A model behind OpenAI's chat completions.
pub struct OpenAi {
    config: OpenAiConfig,
    exchange: Exchange<OpenAiDialect>,
    /// What was tried first.
    first: Habits,
    habits: Habits,
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("config", &self.config).finish_non_exhaustive()
    }
}

impl OpenAi {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field: the base URL, a missing key for a server that is not on this machine, a
    /// temperature or timeout out of range, an `extra` field that the client sets itself. [`Error::Empty`] without a
    /// model.
    pub fn new(config: OpenAiConfig) -> Result<Self> {
        config::check_request(&config.model, config.temperature, &config.extra)?;
        if config.max_tokens == Some(0) {
            return Err(Error::config("max_tokens", 0, "at least 1"));
        }
        let endpoint = Endpoint::new(&config.base_url, "/chat/completions")?;
        if config.key.is_none() && !endpoint.is_loopback {
            return Err(Error::config(KEY, "(not set)", "this service wants a key"));
        }
        let by_host = if endpoint.host == HOST { "max_completion_tokens" } else { "max_tokens" };
        let limit_field = match config.token_limit {
            TokenLimit::ByHost => by_host,
            TokenLimit::MaxTokens => "max_tokens",
            TokenLimit::MaxCompletionTokens => "max_completion_tokens",
        };
        let header = config.key.as_ref().map(|key| key.header("Bearer ")).transpose()?;
        let headers = header.map(|value| (header::AUTHORIZATION, value)).into_iter().collect();
        let exchange = Exchange::new(endpoint, config.key.clone(), headers, config.connection)?;
        let first = Habits::new(limit_field);
        Ok(Self { config, exchange, habits: first.clone(), first })
    }

    /// The address of the chat completions.
    pub fn url(&self) -> &str {
        &self.exchange.endpoint().url
    }

    /// What the server was found to refuse, and what is done instead, in words.
    pub fn adjustments(&self) -> Vec<String> {
        self.habits.since(&self.first)
    }
}

impl Orchestrator for OpenAi {
    fn model(&self) -> &str {
        &self.config.model
    }

    fn backend(&self) -> &'static str {
        "openai"
    }

    /// # Errors
    /// [`Error::Api`] with the failure of the last request, [`Error::Cancelled`], [`Error::Timeout`]; [`Error::Config`]
    /// where the log would show the key, see [`api`](crate::api).
    fn complete(&mut self, request: &ChatRequest<'_>) -> Result<Completion> {
        let guard = TurnGuard::of(request);
        let (mut habits, mut sent) = (self.habits.clone(), 0);
        let mut tried = vec![habits.clone()];
        loop {
            let body = request::body(&self.config, &habits, request)?;
            match self.exchange.turn(&body, &guard, sent) {
                Ok(completion) => {
                    if habits != self.habits {
                        log::warn!("{}: from now on {}", self.url(), habits.since(&self.first).join(", "));
                    }
                    self.habits = habits;
                    return Ok(completion);
                }
                Err(Stop::Failed(failure, so_far)) => match habits.instead(&failure, &body) {
                    Some(other) if !tried.contains(&other) => {
                        (habits, sent) = (other, so_far);
                        tried.push(habits.clone());
                    }
                    _ => return Err(self.exchange.error(Stop::Failed(failure, so_far))),
                },
                Err(stop) => return Err(self.exchange.error(stop)),
            }
        }
    }
}
