//! Chat completions: what is asked, and what comes back.

use std::time::Duration;

use latent_briefing::orchestrate::api::{
    ApiKey, Effort, Failure, OpenAi, OpenAiConfig, Streaming, TokenLimit,
};
use latent_briefing::orchestrate::{Completion, Finish, Orchestrator, Usage};
use serde_json::{Value, json};

use super::{Api, MODEL, SECRET, TEXT, ask, failed, quick, turn};
use crate::support::api_server::{ApiServer, How, Reply};

pub(super) const WHOLE: &str = r#"{
  "id": "chatcmpl-1", "object": "chat.completion", "created": 1796000000, "model": "test-model-2026",
  "choices": [{"index": 0, "message": {"role": "assistant", "content": "Anara keeps the ledger. ✓", "refusal": null,
    "reasoning_content": "The notes name her."}, "logprobs": null, "finish_reason": "stop"}],
  "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 100, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0}}}"#;

pub(super) const STREAM: &str = r#": a comment, as some send while they wait

data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}

data: {"id":"1","choices":[{"index":0,"delta":{"reasoning_content":"The notes "},"finish_reason":null}]}

data: {"id":"1","choices":[{"index":0,"delta":{"reasoning_content":"name her."},"finish_reason":null}]}

data: {"id":"1","choices":[{"index":0,"delta":{"content":"Anara keeps "},"finish_reason":null}]}

data: {"id":"1","choices":[{"index":0,"delta":{"content":"the ledger. ✓"},"finish_reason":null}]}

data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"1","choices":[],"usage":{"prompt_tokens":120,"completion_tokens":30,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":100},"completion_tokens_details":{"reasoning_tokens":20}}}

data: [DONE]

"#;

fn expected() -> Completion {
    Completion {
        text: TEXT.to_string(),
        reasoning: Some("The notes name her.".to_string()),
        usage: Usage { input: 120, cached: 100, output: 30, reasoning: 20, ..Usage::default() },
        finish: Finish::Stop,
        ..Completion::default()
    }
}

/// The completion that a whole reply with this message and reason to finish gives.
fn message(message: &Value, finish: &Value) -> Completion {
    let reply = json!({"choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
    turn(Api::OpenAi, Streaming::Off, vec![Reply::json(200, reply.to_string())]).0.unwrap()
}

#[test]
fn a_reply_is_read_whole_and_streamed() {
    for (streaming, reply) in
        [(Streaming::Off, Reply::json(200, WHOLE)), (Streaming::On, Reply::events(STREAM))]
    {
        let (outcome, server) = turn(Api::OpenAi, streaming, vec![reply]);
        assert_eq!(outcome.unwrap(), expected(), "{streaming:?}");
        let request = &server.requests()[0];
        assert_eq!(request.path, "/chat/completions");
        assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
        assert_eq!(request.headers["content-type"], "application/json");
        let mut wanted = json!({"model": MODEL, "max_tokens": 100, "messages": [
            {"role": "system", "content": "You answer in one sentence."},
            {"role": "user", "content": "Who keeps the ledger?"}]});
        if streaming == Streaming::On {
            wanted["stream"] = true.into();
            wanted["stream_options"] = json!({"include_usage": true});
        }
        assert_eq!(request.body, wanted);
    }
}

#[test]
fn what_the_server_sends_counts_not_what_was_asked_for() {
    let (outcome, _) = turn(Api::OpenAi, Streaming::On, vec![Reply::json(200, WHOLE)]);
    assert_eq!(outcome.unwrap(), expected());
    let (outcome, _) = turn(Api::OpenAi, Streaming::Off, vec![Reply::events(STREAM)]);
    assert_eq!(outcome.unwrap(), expected());
}

#[test]
fn a_stream_may_lack_its_last_mark_but_not_its_reason_to_finish() {
    let unmarked = STREAM.replace("data: [DONE]\n\n", "");
    for how in [How::Chunked(None), How::ToTheEnd] {
        let (outcome, _) = turn(Api::OpenAi, Streaming::On, vec![Reply::events(unmarked.clone()).how(how)]);
        assert_eq!(outcome.unwrap(), expected());
    }
    // Without usage, and without a line break at the very end.
    let at = STREAM.find("data: {\"id\":\"1\",\"choices\":[],").unwrap();
    let ended = format!("{}data: [DONE]", &STREAM[..at]);
    let (outcome, _) = turn(Api::OpenAi, Streaming::On, vec![Reply::events(ended)]);
    let completion = outcome.unwrap();
    assert_eq!(completion.text, TEXT);
    assert_eq!(completion.usage, Usage { unreported: 1, ..Usage::default() });
    let unfinished = STREAM
        [..STREAM.find("data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},").unwrap()]
        .to_string();
    let cut = Reply::events(unfinished).how(How::ToTheEnd);
    let (outcome, _) = turn(Api::OpenAi, Streaming::On, vec![cut; 3]);
    assert!(matches!(failed(outcome), (Failure::Cut { bytes: 400.. }, 3)));
}

#[test]
fn content_in_other_forms() {
    let parts = json!([{"type": "text", "text": "Anara "}, {"type": "image_url"}, {"type": "text", "text": "does."},
        {"type": "thinking", "thinking": [{"type": "text", "text": "Notes."}]}]);
    let completion = message(&json!({"content": parts}), &json!("stop"));
    assert_eq!((completion.text.as_str(), completion.reasoning.as_deref()), ("Anara does.", Some("Notes.")));
    assert_eq!(completion.usage, Usage { input: 1, output: 2, ..Usage::default() });

    let inline = message(&json!({"content": "<think>\nNotes.\n</think>\n\nAnara."}), &json!("stop"));
    assert_eq!((inline.text.as_str(), inline.reasoning.as_deref()), ("Anara.", Some("Notes.")));
    let open = message(&json!({"content": "<think>```repl\nx\n```"}), &json!("length"));
    assert_eq!((open.text.as_str(), open.finish), ("", Finish::Length));
    let quoted = message(&json!({"content": "It writes <think> and </think>."}), &json!("stop"));
    assert_eq!(quoted.text, "It writes <think> and </think>.");
    assert_eq!(quoted.reasoning, None);

    let thought = message(&json!({"content": null, "reasoning": "Hm."}), &json!("length"));
    assert_eq!((thought.text.as_str(), thought.reasoning.as_deref()), ("", Some("Hm.")));
    let refused = message(&json!({"content": null, "refusal": "I cannot."}), &json!("stop"));
    assert_eq!((refused.text.as_str(), refused.finish), ("I cannot.", Finish::Other("refusal".to_string())));
    let filtered = message(&json!({"content": ""}), &json!("content_filter"));
    assert_eq!(filtered.finish, Finish::Other("content_filter".to_string()));
    assert_eq!(message(&json!({"content": ""}), &Value::Null).finish, Finish::Stop);
}

#[test]
fn counts_that_are_none_are_not_taken_for_zero() {
    for usage in [json!(null), json!({}), json!({"prompt_tokens": -1, "completion_tokens": 3}), json!("many")]
    {
        let reply =
            json!({"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}], "usage": usage});
        let (outcome, _) = turn(Api::OpenAi, Streaming::Off, vec![Reply::json(200, reply.to_string())]);
        assert_eq!(outcome.unwrap().usage, Usage { unreported: 1, ..Usage::default() }, "{usage}");
    }
}

const REFUSES_MAX_TOKENS: &str = r#"{"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter"}}"#;

#[test]
fn the_other_field_for_the_limit_is_tried_once_and_kept() {
    let good = || Reply::json(200, WHOLE);
    let server = ApiServer::start([Reply::json(400, REFUSES_MAX_TOKENS), good(), good()]);
    let mut client = Api::OpenAi.client(&server.url(), quick(Streaming::Off));
    ask(&mut *client).unwrap();
    ask(&mut *client).unwrap();
    let fields: Vec<_> = server
        .requests()
        .iter()
        .map(|r| (r.body.get("max_tokens").cloned(), r.body.get("max_completion_tokens").cloned()))
        .collect();
    let limit = Some(json!(100));
    assert_eq!(fields, [(limit.clone(), None), (None, limit.clone()), (None, limit)]);

    // A server that refuses both is not asked for ever.
    let both = r#"{"error": {"message": "max_tokens and max_completion_tokens are unknown", "code": 400}}"#;
    let (outcome, server) = turn(Api::OpenAi, Streaming::Off, vec![Reply::json(400, both); 5]);
    assert!(matches!(failed(outcome), (Failure::Refused { status: 400, .. }, 2)));
    assert_eq!(server.left(), 3);
}

#[test]
fn stream_options_are_left_out_where_they_are_refused() {
    let refused = Reply::json(422, r#"{"detail": "Unexpected fields in the request: {'stream_options'}"}"#);
    let (outcome, server) = turn(Api::OpenAi, Streaming::On, vec![refused, Reply::events(STREAM)]);
    assert_eq!(outcome.unwrap(), expected());
    let asked: Vec<bool> = server.requests().iter().map(|r| r.body.get("stream_options").is_some()).collect();
    assert_eq!(asked, [true, false]);
}

#[test]
fn every_option_reaches_the_request() {
    let server = ApiServer::start([Reply::json(200, WHOLE)]);
    let mut config = OpenAiConfig {
        key: Some(ApiKey::new(SECRET).unwrap()),
        token_limit: TokenLimit::MaxCompletionTokens,
        temperature: Some(0.5),
        effort: Some(Effort::Low),
        connection: quick(Streaming::Off),
        ..OpenAiConfig::at(format!("{}/v1/", server.url()), MODEL)
    };
    config.extra.insert("chat_template_kwargs".to_string(), json!({"enable_thinking": false}));
    let mut client = OpenAi::new(config).unwrap();
    assert_eq!((client.model(), client.backend()), (MODEL, "openai"));
    assert!(client.url().ends_with("/v1/chat/completions"));
    ask(&mut client).unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.path, "/v1/chat/completions");
    assert_eq!(request.body["max_completion_tokens"], 100);
    assert_eq!(request.body["temperature"], 0.5);
    assert_eq!(request.body["reasoning_effort"], "low");
    assert_eq!(request.body["chat_template_kwargs"]["enable_thinking"], false);
}

#[test]
fn an_error_in_the_middle_of_a_stream_is_an_error() {
    let begun =
        &STREAM[..STREAM.find("data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},").unwrap()];
    let broken = format!("{begun}data: {{\"error\": \"the device ran out of memory\"}}\n\n");
    let replies = vec![Reply::events(broken), Reply::events(STREAM)];
    let (outcome, server) = turn(Api::OpenAi, Streaming::On, replies);
    assert_eq!(outcome.unwrap().text, TEXT, "nothing of the broken reply is left");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn want_of_credit_is_not_waited_for() {
    let body = r#"{"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}}"#;
    let (outcome, server) = turn(Api::OpenAi, Streaming::On, vec![Reply::json(429, body); 3]);
    let (failure, attempts) = failed(outcome);
    assert!(matches!(failure, Failure::Refused { status: 429, .. }), "{failure:?}");
    assert!(failure.to_string().contains("credit"));
    assert_eq!((attempts, server.left()), (1, 2));
}

#[test]
fn a_pause_in_milliseconds() {
    let busy = Reply::json(429, "{}").header("retry-after-ms", "150").header("retry-after", "1");
    let (outcome, server) = turn(Api::OpenAi, Streaming::Off, vec![busy, Reply::json(200, WHOLE)]);
    outcome.unwrap();
    let times: Vec<_> = server.requests().iter().map(|r| r.at).collect();
    assert!(times[1] - times[0] >= Duration::from_millis(150));
}
