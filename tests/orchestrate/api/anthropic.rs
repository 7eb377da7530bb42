//! Messages: an exchange in the documented format, thinking blocks and cache counts included.

use latent_briefing::orchestrate::api::{
    Anthropic, AnthropicConfig, AnthropicThinking, ApiKey, Effort, Failure, PromptCache, Streaming,
};
use latent_briefing::orchestrate::{
    ChatMessage, ChatRequest, Completion, Error, Finish, Orchestrator, Role, Usage,
};
use latent_briefing::session::CancelToken;
use serde_json::{Value, json};

use super::{Api, MODEL, SECRET, TEXT, ask, failed, quick, turn};
use crate::support::api_server::{ApiServer, How, Reply};
use crate::support::assert_error;

pub(super) const WHOLE: &str = r#"{
  "id": "msg_01", "type": "message", "role": "assistant", "model": "test-model-2026",
  "content": [
    {"type": "thinking", "thinking": "The notes name her.", "signature": "EqQBCgIYAhIM"},
    {"type": "redacted_thinking", "data": "EmwKAhgBEgy3"},
    {"type": "text", "text": "Anara keeps "},
    {"type": "text", "text": "the ledger. ✓"}],
  "stop_reason": "end_turn", "stop_sequence": null,
  "usage": {"input_tokens": 15, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0}, "service_tier": "standard"}}"#;

pub(super) const STREAM: &str = r#"event: message_start
data: {"type": "message_start", "message": {"id": "msg_01", "type": "message", "role": "assistant", "content": [], "model": "test-model-2026", "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 15, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 1}}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "The notes "}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "name her."}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQBCgIYAhIM"}}

event: content_block_stop
data: {"type": "content_block_stop", "index": 0}

event: content_block_start
data: {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Anara keeps "}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "the ledger. ✓"}}

event: content_block_stop
data: {"type": "content_block_stop", "index": 1}

event: message_delta
data: {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 30}}

event: message_stop
data: {"type": "message_stop"}

"#;

fn expected() -> Completion {
    Completion {
        text: TEXT.to_string(),
        reasoning: Some("The notes name her.".to_string()),
        usage: Usage { input: 120, cached: 100, cache_written: 5, output: 30, ..Usage::default() },
        finish: Finish::Stop,
        ..Completion::default()
    }
}

/// What a client with this config asks for these messages.
fn asked(change: impl FnOnce(&mut AnthropicConfig), messages: &[ChatMessage]) -> Value {
    let server = ApiServer::start([Reply::json(200, WHOLE)]);
    let key = Some(ApiKey::new(SECRET).unwrap());
    let mut config = AnthropicConfig {
        key,
        connection: quick(Streaming::Off),
        ..AnthropicConfig::at(server.url(), MODEL)
    };
    change(&mut config);
    let mut client = Anthropic::new(config).unwrap();
    assert_eq!((client.model(), client.backend()), (MODEL, "anthropic"));
    let cancel = CancelToken::new();
    client.complete(&ChatRequest { messages, max_tokens: None, deadline: None, cancel: &cancel }).unwrap();
    server.requests()[0].body.clone()
}

#[test]
fn a_reply_is_read_whole_and_streamed() {
    let ephemeral = json!({"type": "ephemeral"});
    for (streaming, reply) in
        [(Streaming::Off, Reply::json(200, WHOLE)), (Streaming::On, Reply::events(STREAM))]
    {
        let (outcome, server) = turn(Api::Anthropic, streaming, vec![reply]);
        assert_eq!(outcome.unwrap(), expected(), "{streaming:?}");
        let request = &server.requests()[0];
        assert_eq!(request.path, "/v1/messages");
        assert_eq!(request.headers["x-api-key"], SECRET);
        assert_eq!(request.headers["anthropic-version"], "2023-06-01");
        assert!(!request.headers.contains_key("authorization"));
        let mut wanted = json!({"model": MODEL, "max_tokens": 100,
            "system": [{"type": "text", "text": "You answer in one sentence.", "cache_control": ephemeral}],
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "Who keeps the ledger?", "cache_control": ephemeral}]}]});
        if streaming == Streaming::On {
            wanted["stream"] = true.into();
        }
        assert_eq!(request.body, wanted);
    }
}

#[test]
fn messages_of_one_role_are_joined_and_empty_ones_left_out() {
    let messages = [
        ChatMessage::new(Role::System, "First rule."),
        ChatMessage::new(Role::User, "Question."),
        ChatMessage::new(Role::User, "Turn 1/30"),
        ChatMessage::new(Role::Assistant, "Code."),
        ChatMessage::new(Role::User, "Output."),
        ChatMessage::new(Role::Assistant, " \n"),
        ChatMessage::new(Role::System, "Second rule."),
        ChatMessage::new(Role::User, "Turn 2/30"),
    ];
    let body = asked(|config| config.prompt_cache = PromptCache::Off, &messages);
    let block = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(body["system"], json!([block("First rule."), block("Second rule.")]));
    let turns = json!([
        {"role": "user", "content": [block("Question."), block("Turn 1/30")]},
        {"role": "assistant", "content": [block("Code.")]},
        {"role": "user", "content": [block("Output."), block("Turn 2/30")]}]);
    assert_eq!(body["messages"], turns);
    assert_eq!(body["max_tokens"], 16_384);

    let marked = asked(|_| {}, &messages);
    let marks: Vec<_> = marked["messages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|turn| turn["content"].as_array().unwrap())
        .map(|block| block.get("cache_control").is_some())
        .collect();
    assert_eq!(marks, [false, false, false, false, true], "the last block alone");
    assert!(marked["system"][0].get("cache_control").is_none());
    assert!(marked["system"][1].get("cache_control").is_some());
}

#[test]
fn nothing_to_say_is_an_error() {
    let mut client = Api::Anthropic.client("http://127.0.0.1:9", quick(Streaming::On));
    let cancel = CancelToken::new();
    let messages = [ChatMessage::new(Role::System, "Rules."), ChatMessage::new(Role::User, "  ")];
    let request = ChatRequest { messages: &messages, max_tokens: None, deadline: None, cancel: &cancel };
    assert_error!(client.complete(&request).unwrap_err(), Error::Empty { .. }, "messages");
}

#[test]
fn every_option_reaches_the_request() {
    let body = asked(
        |config| {
            config.max_tokens = 4000;
            config.temperature = Some(1.0);
            config.effort = Some(Effort::XHigh);
            config.thinking = AnthropicThinking::Budget(2000);
            config.extra.insert("stop_sequences".to_string(), json!(["END"]));
        },
        &super::question(),
    );
    assert_eq!(body["max_tokens"], 4000);
    assert_eq!(body["temperature"], 1.0);
    assert_eq!(body["output_config"], json!({"effort": "xhigh"}));
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 2000}));
    assert_eq!(body["stop_sequences"], json!(["END"]));
    for (thinking, kind) in [(AnthropicThinking::Adaptive, "adaptive"), (AnthropicThinking::Off, "disabled")]
    {
        let body = asked(|config| config.thinking = thinking, &super::question());
        assert_eq!(body["thinking"], json!({"type": kind}));
    }
}

#[test]
fn reasons_to_stop() {
    for (reason, finish) in [
        ("end_turn", Finish::Stop),
        ("stop_sequence", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("refusal", Finish::Other("refusal".to_string())),
    ] {
        for (streaming, good) in
            [(Streaming::Off, Reply::json(200, WHOLE)), (Streaming::On, Reply::events(STREAM))]
        {
            let body = String::from_utf8(good.body.clone()).unwrap().replace("end_turn", reason);
            let reply = Reply { body: body.into(), ..good };
            let (outcome, _) = turn(Api::Anthropic, streaming, vec![reply]);
            assert_eq!(outcome.unwrap().finish, finish, "{streaming:?}");
        }
    }
}

#[test]
fn counts_that_are_missing_are_not_taken_for_zero() {
    let usage = Usage { unreported: 1, ..Usage::default() };
    let whole = WHOLE.replace("\"output_tokens\"", "\"other\"");
    let (outcome, _) = turn(Api::Anthropic, Streaming::Off, vec![Reply::json(200, whole)]);
    assert_eq!(outcome.unwrap().usage, usage);
    // The count at the start of a stream is not that of its end.
    let stream = STREAM.replace(", \"usage\": {\"output_tokens\": 30}", "");
    let (outcome, _) = turn(Api::Anthropic, Streaming::On, vec![Reply::events(stream)]);
    assert_eq!(outcome.unwrap().usage, usage);
}

#[test]
fn a_stream_without_its_last_event_is_cut() {
    let cut = &STREAM[..STREAM.find("event: message_stop").unwrap()];
    let replies = vec![Reply::events(cut).how(How::ToTheEnd); 3];
    let (outcome, _) = turn(Api::Anthropic, Streaming::On, replies);
    assert!(matches!(failed(outcome), (Failure::Cut { bytes: 400.. }, 3)));
}

#[test]
fn an_error_event_is_what_its_status_would_be() {
    let begun = &STREAM[..STREAM.find("event: content_block_stop").unwrap()];
    let with = |kind: &str| {
        let error = format!(r#"{{"type": "error", "error": {{"type": "{kind}", "message": "Overloaded"}}}}"#);
        Reply::events(format!("{begun}event: error\ndata: {error}\n\n"))
    };
    let (outcome, _) =
        turn(Api::Anthropic, Streaming::On, vec![with("overloaded_error"), Reply::events(STREAM)]);
    assert_eq!(outcome.unwrap(), expected());
    for (kind, status, attempts) in [
        ("overloaded_error", 529, 3),
        ("rate_limit_error", 429, 3),
        ("api_error", 500, 3),
        ("timeout_error", 504, 3),
        ("invalid_request_error", 400, 1),
        ("authentication_error", 401, 1),
        ("permission_error", 403, 1),
        ("not_found_error", 404, 1),
        ("request_too_large", 413, 1),
        ("billing_error", 402, 1),
    ] {
        let (outcome, _) = turn(Api::Anthropic, Streaming::On, vec![with(kind); 3]);
        let (failure, sent) = failed(outcome);
        assert_eq!((failure.status(), sent), (Some(status), attempts), "{kind}");
    }
}

#[test]
fn conversations_grow_without_changing_what_was_cached() {
    let server = ApiServer::start([Reply::json(200, WHOLE), Reply::json(200, WHOLE)]);
    let mut client = Api::Anthropic.client(&server.url(), quick(Streaming::Off));
    ask(&mut *client).unwrap();
    let mut messages = super::question();
    messages.push(ChatMessage::new(Role::Assistant, TEXT));
    messages.push(ChatMessage::new(Role::User, "And who reads it?"));
    let cancel = CancelToken::new();
    let request = ChatRequest { messages: &messages, max_tokens: Some(100), deadline: None, cancel: &cancel };
    client.complete(&request).unwrap();
    let blocks = |index: usize| -> Vec<Value> {
        let mut body = server.requests()[index].body.clone();
        let turns = body["messages"].as_array_mut().unwrap();
        turns.iter_mut().flat_map(|turn| turn["content"].as_array().unwrap().clone()).collect()
    };
    let text = |block: &Value| block["text"].clone();
    let (first, second) = (blocks(0), blocks(1));
    assert_eq!(first.iter().map(text).collect::<Vec<_>>(), second[..1].iter().map(text).collect::<Vec<_>>());
    assert_eq!(second.len(), 3);
}
