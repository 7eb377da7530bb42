//! The clients of APIs against a loopback server that answers in the documented formats, and breaks on demand.

mod anthropic;
mod config;
mod faults;
mod habits;
mod keys;
mod openai;
mod peer;
mod secure;
mod stops;

use std::time::Duration;

use latent_briefing::orchestrate::api::{
    Anthropic, AnthropicConfig, ApiKey, Connection, Failure, OpenAi, OpenAiConfig, Retries, Streaming,
    Timeouts,
};
use latent_briefing::orchestrate::{ChatMessage, ChatRequest, Completion, Error, Orchestrator, Role};
use latent_briefing::session::CancelToken;

use crate::support::api_server::{ApiServer, Reply};

const SECRET: &str = "sk-test-0a1b2c3d4e5f6071829304a5b6c7d8e9";
const MODEL: &str = "test-model";
const TEXT: &str = "Anara keeps the ledger. ✓";

/// Both services, streamed and not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    OpenAi,
    Anthropic,
}

const CASES: [(Api, Streaming); 4] = [
    (Api::OpenAi, Streaming::Off),
    (Api::OpenAi, Streaming::On),
    (Api::Anthropic, Streaming::Off),
    (Api::Anthropic, Streaming::On),
];

/// Pauses of a millisecond, two retries.
fn quick(streaming: Streaming) -> Connection {
    let ms = Duration::from_millis;
    let timeouts =
        Timeouts { connect: ms(5_000), silence: Duration::from_secs(20), whole: Duration::from_mins(1) };
    let retries = Retries { count: 2, first_pause: ms(1), longest_pause: Duration::from_secs(2) };
    Connection { timeouts, retries, streaming, ..Connection::default() }
}

impl Api {
    fn client(self, url: &str, connection: Connection) -> Box<dyn Orchestrator> {
        let key = Some(ApiKey::new(SECRET).unwrap());
        match self {
            Self::OpenAi => Box::new(
                OpenAi::new(OpenAiConfig { key, connection, ..OpenAiConfig::at(url, MODEL) }).unwrap(),
            ),
            Self::Anthropic => Box::new(
                Anthropic::new(AnthropicConfig { key, connection, ..AnthropicConfig::at(url, MODEL) })
                    .unwrap(),
            ),
        }
    }

    fn good(self, streaming: Streaming) -> Reply {
        match (self, streaming) {
            (Self::OpenAi, Streaming::Off) => Reply::json(200, openai::WHOLE),
            (Self::OpenAi, Streaming::On) => Reply::events(openai::STREAM),
            (Self::Anthropic, Streaming::Off) => Reply::json(200, anthropic::WHOLE),
            (Self::Anthropic, Streaming::On) => Reply::events(anthropic::STREAM),
        }
    }
}

fn question() -> Vec<ChatMessage> {
    vec![
        ChatMessage::new(Role::System, "You answer in one sentence."),
        ChatMessage::new(Role::User, "Who keeps the ledger?"),
    ]
}

fn ask(client: &mut dyn Orchestrator) -> Result<Completion, Error> {
    ask_with(client, None, &CancelToken::new())
}

fn ask_with(
    client: &mut dyn Orchestrator,
    within: Option<Duration>,
    cancel: &CancelToken,
) -> Result<Completion, Error> {
    let deadline = within.map(|limit| std::time::Instant::now() + limit);
    client.complete(&ChatRequest { messages: &question(), max_tokens: Some(100), deadline, cancel })
}

/// One turn against these replies.
fn turn(api: Api, streaming: Streaming, replies: Vec<Reply>) -> (Result<Completion, Error>, ApiServer) {
    let server = ApiServer::start(replies);
    let outcome = ask(&mut *api.client(&server.url(), quick(streaming)));
    (outcome, server)
}

/// The failure in an error, and how many requests there were.
#[track_caller]
fn failed(outcome: Result<Completion, Error>) -> (Failure, usize) {
    let error = outcome.expect_err("this turn cannot succeed");
    assert_no_secret(&error);
    match error {
        Error::Api { failure, attempts, endpoint, .. } => {
            assert!(endpoint.starts_with("http://127.0.0.1:"), "{endpoint}");
            (*failure, attempts)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_no_secret(what: &(impl std::fmt::Debug + ?Sized)) {
    assert_hidden(&format!("{what:?} {what:#?}"));
}

/// Neither the secret nor a long part of it.
#[track_caller]
fn assert_hidden(text: &str) {
    for part in SECRET.as_bytes().windows(8) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!text.contains(part), "{part:?} in {text}");
    }
}
