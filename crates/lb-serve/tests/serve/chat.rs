//! OpenAI's protocol.

use lb_model::{Conversation, GenerateOptions};
use serde_json::{Value, json};

use crate::support::{Client, chat, usual, worker};

/// What the worker writes alone.
fn alone(question: &str, options: &GenerateOptions) -> String {
    let json = chat(question);
    let conversation = Conversation::from_json(json["messages"].to_string().as_bytes()).unwrap();
    let prompt = worker().encode_conversation(&conversation.messages, &conversation.options()).unwrap();
    let mut cache = worker().model().new_cache();
    worker().generate(&mut cache, &prompt, options, &mut |_, _| true).unwrap().text
}

#[test]
fn a_chat_is_what_the_worker_writes_alone() {
    let (_server, client) = usual();
    let question = "Who keeps the Oslo ledger?";
    let told = client.post("/v1/chat/completions", &chat(question));
    assert_eq!(told.status, 200, "{}", told.body);
    let choice = &told.body["choices"][0];
    assert_eq!(choice["message"]["content"], alone(question, &GenerateOptions::greedy(24)));
    assert_eq!(told.body["object"], "chat.completion");
    let usage = &told.body["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);

    let mut sampled = chat(question);
    sampled["temperature"] = 0.8.into();
    sampled["seed"] = 7.into();
    let options = GenerateOptions { temperature: Some(0.8), seed: 7, ..GenerateOptions::greedy(24) };
    let told = client.post("/v1/chat/completions", &sampled);
    assert_eq!(told.body["choices"][0]["message"]["content"], alone(question, &options));
}

fn pieces(events: &[(String, String)]) -> Vec<Value> {
    assert_eq!(events.last().unwrap().1, "[DONE]");
    events[..events.len() - 1].iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn a_stream_is_the_whole_in_pieces() {
    let (_server, client) = usual();
    let mut request = chat("Name the ledgers.");
    let whole = client.post("/v1/chat/completions", &request).body;
    request["stream"] = true.into();
    request["stream_options"] = json!({ "include_usage": true });
    let chunks = pieces(&client.stream("/v1/chat/completions", &request));
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let finish: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(finish.iter().filter(|reason| !reason.is_null()).count(), 1);
    let last = chunks.last().unwrap();
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert_eq!(last["choices"], json!([]));
    // The same prompt again is not read again.
    assert!(last["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn stops_choices_and_log_probabilities() {
    let (_server, client) = usual();
    let request = json!({ "prompt": "The ledger is kept by", "max_tokens": 20, "ignore_eos": true, "temperature": 1.0, "seed": 2 });
    let whole = client.post("/v1/completions", &request);
    let text = whole.body["choices"][0]["text"].as_str().unwrap().to_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.len() > 2, "{text}");
    let stop = words[1];
    let mut stopping = request.clone();
    stopping["stop"] = json!([stop]);
    let told = client.post("/v1/completions", &stopping);
    assert_eq!(told.body["choices"][0]["text"], text[..text.find(stop).unwrap()]);
    assert_eq!(told.body["choices"][0]["finish_reason"], "stop");

    let mut request = chat("Who keeps the Oslo ledger?");
    for (name, value) in [
        ("ignore_eos", json!(true)),
        ("n", json!(3)),
        ("temperature", json!(1.0)),
        ("seed", json!(5)),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(2)),
    ] {
        request[name] = value;
    }
    let told = client.post("/v1/chat/completions", &request);
    assert_eq!(told.status, 200, "{}", told.body);
    let choices = told.body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for choice in choices {
        let content = choice["logprobs"]["content"].as_array().unwrap();
        let said = content.iter().map(|token| token["token"].as_str().unwrap());
        // What would have ended it has no text.
        let said: String = said.filter(|token| *token != "<|im_end|>").collect();
        assert_eq!(choice["message"]["content"], said);
        for token in content {
            let best = token["top_logprobs"].as_array().unwrap();
            assert_eq!(best.len(), 2);
            assert!(best[0]["logprob"].as_f64().unwrap() >= best[1]["logprob"].as_f64().unwrap());
            assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        }
    }
}

#[test]
fn what_is_wrong_is_named_and_what_does_not_matter_is_passed_over() {
    let (_server, client) = usual();
    let path = "/v1/chat/completions";
    let wrong: [(Value, u16, &str); 14] = [
        (json!({}), 400, "messages"),
        (json!({ "messages": [] }), 400, "messages"),
        (json!({ "messages": "x" }), 400, "messages"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            400,
            "messages[0]",
        ),
        (json!({ "messages": [{ "content": "x" }] }), 400, "messages[0]"),
        (json!({ "messages": [{ "role": "user", "content": "x" }], "max_tokens": 0 }), 400, "max_tokens"),
        (json!({ "messages": [{ "role": "user", "content": "x" }], "max_tokens": -1 }), 400, "max_tokens"),
        (json!({ "messages": [{ "role": "user", "content": "x" }], "temperature": -1 }), 400, "temperature"),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }], "top_p": 2, "temperature": 1 }),
            400,
            "top_p",
        ),
        (json!({ "messages": [{ "role": "user", "content": "x" }], "n": 99 }), 400, "n"),
        (json!({ "messages": [{ "role": "user", "content": "x" }], "stop": [""] }), 400, "stop"),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }], "frequency_penalty": 1 }),
            400,
            "frequency_penalty",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }], "response_format": { "type": "json_object" } }),
            400,
            "response_format",
        ),
        (json!({ "messages": [{ "role": "user", "content": "x" }], "model": "gpt-4o" }), 404, "gpt-4o"),
    ];
    for (body, status, says) in wrong {
        let told = client.post(path, &body);
        assert_eq!(told.status, status, "{body}: {}", told.body);
        let error = &told.body["error"];
        let (message, param) =
            (error["message"].as_str().unwrap(), error["param"].as_str().unwrap_or_default());
        assert!(message.contains(says) || param.contains(says), "{body}: {error}");
    }
    for (text, says) in [("", "EOF"), ("{", "EOF"), ("[1]", "map"), ("{\"messages\": [}", "expected")] {
        let told = client.post_text(path, text);
        assert_eq!(told.status, 400);
        let message = told.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(says) || message.contains("invalid type"), "{text}: {message}");
    }
    let mut request = chat("x");
    for (name, value) in [
        ("user", json!("ana")),
        ("frequency_penalty", json!(0)),
        ("store", json!(null)),
        ("x_of_mine", json!(1)),
    ] {
        request[name] = value;
    }
    let told = client.post(path, &request);
    assert_eq!(told.status, 200, "{}", told.body);
    assert_eq!(told.ignored.as_deref(), Some("user, x_of_mine"));
    assert_eq!(client.get("/v1/nothing").status, 404);
    assert_eq!(client.get(path).status, 405);
}

#[test]
fn what_does_not_fit_the_model_is_refused_as_openai_refuses_it() {
    let (_server, client) = usual();
    let long = "word ".repeat(20_000);
    let told = client.post("/v1/chat/completions", &chat(&long));
    assert_eq!((told.status, told.body["error"]["code"].as_str()), (400, Some("context_length_exceeded")));
}

#[test]
fn the_models_are_those_that_a_request_may_name() {
    let (_server, client) = usual();
    let told = client.get("/v1/models");
    let names: Vec<String> = told.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        names.contains(&"embedded".to_owned()) && names.contains(&"latent-briefing".to_owned()),
        "{names:?}"
    );
    for name in names {
        let mut request = chat("x");
        request["model"] = name.clone().into();
        assert_eq!(client.post("/v1/chat/completions", &request).status, 200);
        assert_eq!(client.get(&format!("/v1/models/{name}")).status, 200);
    }
    assert_eq!(client.get("/v1/models/other").status, 404);
}

/// Two conversations that begin alike share what was read, and say what they would say alone.
#[test]
fn what_was_read_before_is_not_read_again() {
    let (_server, client) = usual();
    let long = "The Oslo ledger is kept by Ana. ".repeat(20);
    let ask = |client: &Client, question: &str| {
        let body = chat(&format!("{long}{question}"));
        let told = client.post("/v1/chat/completions", &body);
        assert_eq!(told.status, 200, "{}", told.body);
        let text = told.body["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        (text, told.body["usage"]["latent_briefing"]["reused"].as_u64().unwrap())
    };
    let (_, none) = ask(&client, "Who keeps it?");
    let (text, some) = ask(&client, "Which town is it of?");
    assert_eq!(none, 0);
    assert!(some > 100, "{some}");
    assert_eq!(text, alone(&format!("{long}Which town is it of?"), &GenerateOptions::greedy(24)));
}
