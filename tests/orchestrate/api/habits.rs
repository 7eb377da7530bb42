//! Refusals that name a part of the request, in the words that servers are known for: asked once more without it, and never
//! with it again.

use latent_briefing::orchestrate::api::{
    Anthropic, AnthropicConfig, ApiKey, Failure, OpenAi, OpenAiConfig, Streaming, TokenLimit,
};
use serde_json::{Value, json};

use super::{MODEL, SECRET, TEXT, anthropic, ask, failed, openai, quick};
use crate::support::api_server::{ApiServer, Reply};

/// What a request asks for beside its messages.
fn config(url: &str, streaming: Streaming) -> OpenAiConfig {
    let key = Some(ApiKey::new(SECRET).unwrap());
    let mut config = OpenAiConfig { key, connection: quick(streaming), ..OpenAiConfig::at(url, MODEL) };
    config.temperature = Some(0.0);
    for (name, value) in [("stop", json!(["END"])), ("top_p", json!(0.9)), ("top_k", json!(40))] {
        config.extra.insert(name.to_string(), value);
    }
    config
}

fn good(streamed: bool) -> Reply {
    if streamed { Reply::events(openai::STREAM) } else { Reply::json(200, openai::WHOLE) }
}

/// A refusal, and the fields that must then be missing.
type Case = (&'static str, u16, &'static str, &'static [&'static str]);

const CASES: [Case; 15] = [
    (
        "OpenAI, an organisation that is not verified",
        400,
        r#"{"error":{"message":"Your organization must be verified to stream this model. Please go to: https://platform.openai.com/settings/organization/general and click on Verify Organization.","type":"invalid_request_error","param":"stream","code":"unsupported_value"}}"#,
        &["stream", "stream_options"],
    ),
    (
        "the same without a parameter",
        400,
        r#"{"error":{"message":"Your organization must be verified to stream this model.","code":"unsupported_value"}}"#,
        &["stream", "stream_options"],
    ),
    (
        "Azure's gateway",
        403,
        r#"{"message":"Streaming requests are not yet allowed."}"#,
        &["stream", "stream_options"],
    ),
    (
        "a plain server",
        400,
        r#"{"error":{"message":"'stream' unsupported by this backend","param":"stream"}}"#,
        &["stream", "stream_options"],
    ),
    (
        "Azure, older versions of its API",
        400,
        r#"{"error":{"code":null,"message":"Unrecognized request argument supplied: stream_options","param":null,"type":"invalid_request_error"}}"#,
        &["stream_options"],
    ),
    (
        "Azure",
        400,
        r#"{"error":{"message":"Unknown parameter: 'stream_options'.","type":"invalid_request_error","param":"stream_options","code":"unknown_parameter"}}"#,
        &["stream_options"],
    ),
    (
        "Mistral",
        422,
        r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"],"msg":"Extra inputs are not permitted","input":true}]},"type":"invalid_request_error","param":null,"code":null}"#,
        &["stream_options"],
    ),
    (
        "OpenAI's models that think",
        400,
        r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#,
        &["temperature"],
    ),
    (
        "Kimi",
        400,
        r#"{"error":{"message":"invalid temperature: only 1 is allowed for this model","type":"invalid_request_error"}}"#,
        &["temperature"],
    ),
    (
        "Claude behind a gateway",
        400,
        r#"{"error":{"code":"invalid_request_error","message":"temperature is deprecated for this model.","type":"invalid_request_error","param":null}}"#,
        &["temperature"],
    ),
    (
        "OpenAI's models that think",
        400,
        r#"{"error":{"message":"Unsupported parameter: 'stop' is not supported with this model.","type":"invalid_request_error","param":"stop","code":"unsupported_parameter"}}"#,
        &["stop"],
    ),
    (
        "Gemini",
        400,
        r#"[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"top_k\": Cannot find field.","status":"INVALID_ARGUMENT"}}]"#,
        &["top_k"],
    ),
    (
        "OpenAI's models that think",
        400,
        r#"{"error":{"message":"Unsupported parameter: 'top_p' is not supported with this model.","type":"invalid_request_error","param":"top_p","code":"unsupported_parameter"}}"#,
        &["top_p"],
    ),
    (
        "OpenAI's models that think",
        400,
        r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#,
        &["max_tokens"],
    ),
    (
        "Copilot's endpoint",
        400,
        r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","code":"invalid_request_body"}}"#,
        &["max_tokens"],
    ),
];

#[test]
fn what_is_refused_by_name_is_left_out_and_stays_out() {
    for (who, status, refusal, without) in CASES {
        let streamed = !without.contains(&"stream");
        let server = ApiServer::start([Reply::json(status, refusal), good(streamed), good(streamed)]);
        let mut client = OpenAi::new(config(&server.url(), Streaming::On)).unwrap();
        assert!(client.adjustments().is_empty());
        for _ in 0..2 {
            let completion = ask(&mut client).unwrap_or_else(|e| panic!("{who}: {e}"));
            assert_eq!((completion.text.as_str(), completion.usage.unreported), (TEXT, 0), "{who}");
        }
        let bodies: Vec<Value> = server.requests().into_iter().map(|request| request.body).collect();
        assert_eq!(bodies.len(), 3, "{who}");
        let mut wanted = bodies[0].clone();
        let fields = wanted.as_object_mut().unwrap();
        assert!(without.iter().all(|name| fields.shift_remove(*name).is_some()), "{who}: {fields:?}");
        if without == ["max_tokens"] {
            fields.insert("max_completion_tokens".to_string(), 100.into());
        }
        assert!(bodies[1] == wanted && bodies[2] == wanted, "{who}: {}", bodies[1]);
        assert_eq!(client.adjustments().len(), if without.len() == 2 { 1 } else { without.len() }, "{who}");
    }
}

#[test]
fn several_refusals_one_after_the_other() {
    let refusal = |at: usize| Reply::json(CASES[at].1, CASES[at].2);
    let server = ApiServer::start([refusal(0), refusal(7), refusal(10), refusal(13), good(false)]);
    let mut client = OpenAi::new(config(&server.url(), Streaming::On)).unwrap();
    ask(&mut client).unwrap();
    let last = server.requests().pop().unwrap().body;
    let names: Vec<&String> = last.as_object().unwrap().keys().collect();
    assert_eq!(names, ["model", "messages", "max_completion_tokens", "top_p", "top_k"]);
    let said = client.adjustments().join("; ");
    for word in ["no streaming", "no temperature", "no stop", "max_completion_tokens instead of max_tokens"] {
        assert!(said.contains(word), "{said}");
    }
}

/// The older servers, where the newer field is what was configured.
#[test]
fn the_older_field_is_tried_as_well() {
    const REFUSAL: &str = r#"{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted","input":100}]}"#;
    let server = ApiServer::start([Reply::json(422, REFUSAL), good(false)]);
    let token_limit = TokenLimit::MaxCompletionTokens;
    let mut client =
        OpenAi::new(OpenAiConfig { token_limit, ..config(&server.url(), Streaming::Off) }).unwrap();
    ask(&mut client).unwrap();
    assert_eq!(server.requests()[1].body["max_tokens"], 100);
}

#[test]
fn system_text_moves_to_the_user_where_it_has_no_role() {
    for (status, refusal) in [
        (
            400,
            r#"{"object":"error","message":"System role not supported","type":"BadRequestError","param":null,"code":400}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Unsupported value: 'messages[0].role' does not support 'system' with this model.","type":"invalid_request_error","param":"messages[0].role","code":"unsupported_value"}}"#,
        ),
        (
            500,
            r#"{"error":{"code":500,"message":"\n------------\nWhile executing CallExpression at line 19, column 27 in source:\n...% 2 == 0) -%}\n        {{ raise_exception(\"Conversation roles must alternate user...\nError: Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/...","type":"server_error"}}"#,
        ),
        (
            500,
            r#"{"error":{"code":500,"message":"Error: Jinja Exception: Only user, assistant and tool roles are supported, got system.","type":"server_error"}}"#,
        ),
        (400, r#"{"error":{"message":"role 'system' is not supported on this model"}}"#),
    ] {
        let server = ApiServer::start([Reply::json(status, refusal), good(false), good(false)]);
        let mut client = OpenAi::new(config(&server.url(), Streaming::Off)).unwrap();
        ask(&mut client).unwrap_or_else(|e| panic!("{refusal}: {e}"));
        ask(&mut client).unwrap();
        let folded =
            json!([{"role": "user", "content": "You answer in one sentence.\n\nWho keeps the ledger?"}]);
        let requests = server.requests();
        assert!(
            requests[1].body["messages"] == folded && requests[2].body["messages"] == folded,
            "{refusal}"
        );
    }
}

/// Refusals that no other form of the request would help.
#[test]
fn other_refusals_stay_final() {
    for (status, refusal) in [
        (400, r#"{"error":{"message":"temperature must be between 0 and 1","param":"temperature"}}"#),
        (
            400,
            r#"{"error":{"message":"Unsupported value: 'reasoning_effort' does not support 'minimal' with this model.","param":"reasoning_effort","code":"unsupported_value"}}"#,
        ),
        (400, r#"{"error":{"message":"This model's maximum context length is 4096 tokens."}}"#),
        (401, r#"{"error":{"message":"unknown parameter 'stream'"}}"#),
        (404, r#"{"error":{"message":"the model does not support streaming"}}"#),
        (500, r#"{"error":{"message":"Jinja Exception: tools are unknown to me"}}"#),
    ] {
        let server = ApiServer::start(vec![Reply::json(status, refusal); 5]);
        let mut client = OpenAi::new(config(&server.url(), Streaming::On)).unwrap();
        let (failure, attempts) = failed(ask(&mut client));
        assert_eq!((failure.status(), attempts), (Some(status), 1), "{refusal}");
    }
    // A server that refuses everything is not asked for ever.
    let all = "stream, stream_options, max_tokens, max_completion_tokens, temperature, stop, top_p and top_k are unknown";
    let server = ApiServer::start(vec![Reply::json(400, json!({"error": {"message": all}}).to_string()); 20]);
    let mut client = OpenAi::new(config(&server.url(), Streaming::On)).unwrap();
    let (failure, attempts) = failed(ask(&mut client));
    assert!(matches!(failure, Failure::Refused { status: 400, .. }) && attempts <= 8, "{attempts}");
    assert!(client.adjustments().is_empty(), "nothing worked, so nothing was learned");
}

#[test]
fn geminis_refusals_are_read() {
    let reply = Reply::json(400, CASES[11].2.replace("top_k", "unheard_of"));
    let server = ApiServer::start([reply]);
    let (failure, _) = failed(ask(&mut OpenAi::new(config(&server.url(), Streaming::Off)).unwrap()));
    assert!(
        failure.to_string().contains("refused (400): Invalid JSON payload received. Unknown name"),
        "{failure}"
    );
}

#[test]
fn claude_is_asked_again_without_a_temperature() {
    const REFUSAL: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"`temperature` is deprecated for this model."},"request_id":"req_1"}"#;
    let good = || Reply::json(200, anthropic::WHOLE);
    let server = ApiServer::start([Reply::json(400, REFUSAL), good(), good()]);
    let config = AnthropicConfig {
        temperature: Some(0.5),
        connection: quick(Streaming::Off),
        ..AnthropicConfig::at(server.url(), MODEL)
    };
    let mut client = Anthropic::new(config).unwrap();
    assert_eq!(ask(&mut client).unwrap().text, TEXT);
    ask(&mut client).unwrap();
    let sent: Vec<bool> = server.requests().iter().map(|r| r.body.get("temperature").is_some()).collect();
    assert_eq!(sent, [true, false, false]);
}
