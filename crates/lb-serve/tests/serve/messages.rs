//! Anthropic's protocol.

use serde_json::{Value, json};

use crate::support::{LINES, chat, usual};

fn message(question: &str) -> Value {
    json!({ "max_tokens": 24, "messages": [{ "role": "user", "content": question }] })
}

#[test]
fn a_message_says_what_a_chat_says() {
    let (_server, client) = usual();
    let question = "Who keeps the Oslo ledger?";
    let told = client.post("/v1/messages", &message(question));
    assert_eq!(told.status, 200, "{}", told.body);
    let chat = client.post("/v1/chat/completions", &chat(question)).body;
    assert_eq!(told.body["content"][0]["text"], chat["choices"][0]["message"]["content"]);
    assert_eq!(told.body["type"], "message");
    assert!(["end_turn", "max_tokens"].contains(&told.body["stop_reason"].as_str().unwrap()));
    assert_eq!(told.body["usage"]["output_tokens"], chat["usage"]["completion_tokens"]);
    let counted = client.post("/v1/messages/count_tokens", &message(question));
    assert_eq!(counted.body["input_tokens"], chat["usage"]["prompt_tokens"]);
}

#[test]
fn a_stream_has_its_events_in_order() {
    let (_server, client) = usual();
    let mut request = message("Name the ledgers.");
    let whole = client.post("/v1/messages", &request).body;
    request["stream"] = true.into();
    let events = client.stream("/v1/messages", &request);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..2], ["message_start", "content_block_start"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let mut text = String::new();
    for (name, data) in &events {
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], **name);
        if name == "content_block_delta" {
            text += data["delta"]["text"].as_str().unwrap();
        }
    }
    assert_eq!(whole["content"][0]["text"], text);
}

#[test]
fn errors_have_the_shape_that_its_clients_read() {
    let (_server, client) = usual();
    for (body, says) in [
        (json!({ "messages": [{ "role": "user", "content": "x" }] }), "max_tokens"),
        (json!({ "max_tokens": 1, "messages": [{ "role": "robot", "content": "x" }] }), "messages[0].role"),
        (
            json!({ "max_tokens": 1, "messages": [{ "role": "user", "content": [{ "type": "image" }] }] }),
            "messages[0].content[0]",
        ),
        (
            json!({ "max_tokens": 1, "messages": [{ "role": "user", "content": "x" }], "tools": [{ "type": "bash_20250124", "name": "bash" }] }),
            "tools[0]",
        ),
    ] {
        let told = client.post("/v1/messages", &body);
        assert_eq!((told.status, told.body["type"].as_str()), (400, Some("error")), "{}", told.body);
        assert_eq!(told.body["error"]["type"], "invalid_request_error");
        assert!(told.body["error"]["message"].as_str().unwrap().contains(says), "{}", told.body);
    }
}

#[test]
fn blocks_of_text_and_results_of_tools_are_read() {
    let (_server, client) = usual();
    let request = json!({
        "max_tokens": 8, "system": [{ "type": "text", "text": "Be short." }],
        "tools": [{ "name": "find", "description": "Finds.", "input_schema": { "type": "object", "properties": {} } }],
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "Who keeps it?" }] },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "find", "input": { "x": 1 } }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [{ "type": "text", "text": "Ana" }] }] },
        ],
    });
    let told = client.post("/v1/messages", &request);
    assert_eq!(told.status, 200, "{}", told.body);
}

#[test]
fn a_message_may_be_about_a_trajectory() {
    let (_server, client) = usual();
    let id = client.trajectory(&LINES);
    let mut request = message("Who keeps the Oslo ledger?");
    request["briefing"] = json!({ "trajectory": id, "handoff": "latent-briefing:keep=0.5" });
    let told = client.post("/v1/messages", &request);
    assert_eq!(told.status, 200, "{}", told.body);
    let usage = &told.body["usage"]["latent_briefing"];
    assert!(usage["kept"].as_u64().unwrap() < usage["seq_len"].as_u64().unwrap());
    request["briefing"]["trajectory"] = "other".into();
    let told = client.post("/v1/messages", &request);
    assert_eq!((told.status, told.body["error"]["type"].as_str()), (404, Some("not_found_error")));
}
