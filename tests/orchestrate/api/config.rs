//! Configs that cannot work are refused before anything is sent.

use std::time::Duration;

use latent_briefing::orchestrate::api::{
    Anthropic, AnthropicConfig, AnthropicThinking, Connection, OpenAi, OpenAiConfig, Timeouts,
};
use latent_briefing::orchestrate::{ChatRequest, Error};
use latent_briefing::session::CancelToken;
use serde_json::json;

use super::{Api, CASES, MODEL, quick};
use crate::support::assert_error;

const HERE: &str = "http://127.0.0.1:9/v1";

#[test]
fn addresses() {
    for url in [
        "",
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "http://",
        "http:///v1",
        "http://user:password@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=password",
        "http://127.0.0.1/v1#password",
        "http://a b/v1",
    ] {
        for error in [
            OpenAi::new(OpenAiConfig::at(url, MODEL)).unwrap_err(),
            Anthropic::new(AnthropicConfig::at(url, MODEL)).unwrap_err(),
        ] {
            let message = error.to_string();
            assert_error!(error, Error::Config { .. }, "base_url");
            assert!(!message.contains("password"), "{message}");
        }
    }
    for (base, url) in [
        ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
        ("http://LOCALHOST/v1//", "http://LOCALHOST/v1/chat/completions"),
        ("http://[::1]:8000", "http://[::1]:8000/chat/completions"),
        ("https://127.8.9.1/api/v1", "https://127.8.9.1/api/v1/chat/completions"),
    ] {
        assert_eq!(OpenAi::new(OpenAiConfig::at(base, MODEL)).unwrap().url(), url);
    }
    for (base, url) in [
        ("http://localhost", "http://localhost/v1/messages"),
        ("http://localhost/v1/", "http://localhost/v1/messages"),
        ("http://localhost/anthropic", "http://localhost/anthropic/v1/messages"),
    ] {
        assert_eq!(Anthropic::new(AnthropicConfig::at(base, MODEL)).unwrap().url(), url);
    }
}

#[test]
fn a_key_is_wanted_but_on_this_machine() {
    assert_error!(
        OpenAi::new(OpenAiConfig::new(MODEL)).unwrap_err(),
        Error::Config { .. },
        "OPENAI_API_KEY",
        "not set"
    );
    assert_error!(
        Anthropic::new(AnthropicConfig::new(MODEL)).unwrap_err(),
        Error::Config { .. },
        "ANTHROPIC_API_KEY",
        "not set"
    );
    for url in ["http://192.168.0.7:8000/v1", "http://localhost.example.com/v1", "http://127.0.0.1.nip.io/v1"]
    {
        OpenAi::new(OpenAiConfig::at(url, MODEL)).unwrap_err();
    }
}

#[test]
fn numbers_and_fields() {
    assert_error!(OpenAi::new(OpenAiConfig::at(HERE, " ")).unwrap_err(), Error::Empty { .. }, "model");
    for t in [-0.1, f64::NAN, f64::INFINITY] {
        let config = OpenAiConfig { temperature: Some(t), ..OpenAiConfig::at(HERE, MODEL) };
        assert_error!(OpenAi::new(config).unwrap_err(), Error::Config { .. }, "temperature");
    }
    for name in ["model", "messages", "stream", "n", "max_tokens", "max_completion_tokens"] {
        let mut config = OpenAiConfig::at(HERE, MODEL);
        config.extra.insert(name.to_string(), json!(true));
        assert_error!(OpenAi::new(config).unwrap_err(), Error::Config { .. }, "extra", name);
    }
    let config = OpenAiConfig { max_tokens: Some(0), ..OpenAiConfig::at(HERE, MODEL) };
    assert_error!(OpenAi::new(config).unwrap_err(), Error::Config { .. }, "max_tokens");
    let config = AnthropicConfig { max_tokens: 0, ..AnthropicConfig::at(HERE, MODEL) };
    assert_error!(Anthropic::new(config).unwrap_err(), Error::Config { .. }, "max_tokens");
    for budget in [0, 1023, 16_384] {
        let thinking = AnthropicThinking::Budget(budget);
        let config = AnthropicConfig { thinking, ..AnthropicConfig::at(HERE, MODEL) };
        assert_error!(Anthropic::new(config).unwrap_err(), Error::Config { .. }, "thinking");
    }
    let base = Connection::default();
    let zero = Duration::ZERO;
    for (timeouts, field) in [
        (Timeouts { connect: zero, ..base.timeouts }, "timeouts.connect"),
        (Timeouts { silence: zero, ..base.timeouts }, "timeouts.silence"),
        (Timeouts { whole: zero, ..base.timeouts }, "timeouts.whole"),
    ] {
        let connection = Connection { timeouts, ..base };
        let config = OpenAiConfig { connection, ..OpenAiConfig::at(HERE, MODEL) };
        assert_error!(OpenAi::new(config).unwrap_err(), Error::Config { .. }, field);
    }
    let connection = Connection { max_reply_bytes: 0, ..base };
    let config = OpenAiConfig { connection, ..OpenAiConfig::at(HERE, MODEL) };
    assert_error!(OpenAi::new(config).unwrap_err(), Error::Config { .. }, "max_reply_bytes");
}

#[test]
fn a_conversation_is_wanted() {
    let cancel = CancelToken::new();
    for api in [Api::OpenAi, Api::Anthropic] {
        let mut client = api.client(HERE, quick(CASES[0].1));
        let request = ChatRequest { messages: &[], max_tokens: None, deadline: None, cancel: &cancel };
        assert_error!(client.complete(&request).unwrap_err(), Error::Empty { .. }, "messages");
    }
}

/// Durations and counts at the ends of their ranges.
#[test]
fn absurd_limits_do_not_overflow() {
    use latent_briefing::orchestrate::api::Retries;
    let most = Duration::MAX;
    let mut connection = quick(CASES[0].1);
    connection.retries = Retries { count: usize::MAX, first_pause: most, longest_pause: most };
    connection.max_reply_bytes = u64::MAX;
    let server = crate::support::api_server::ApiServer::start([]);
    let mut client = Api::OpenAi.client(&server.url(), connection);
    let within = Some(Duration::from_secs(30));
    let outcome = super::ask_with(&mut *client, within, &CancelToken::new());
    assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
}
