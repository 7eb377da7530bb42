//! Trajectories as resources, and answers about them.

use lb_session::{OpenSession, Segment, WorkerSession};
use serde_json::{Value, json};

use crate::support::{Client, LINES, config, serve, until, usual, worker};

fn session(lines: &[&str]) -> WorkerSession {
    let mut session = worker().session().unwrap();
    for line in lines {
        session.extend(Segment::finding(*line)).unwrap();
    }
    session
}

fn ask(client: &Client, id: &str, handoff: &str) -> Value {
    let told = client.post(
        "/v1/chat/completions",
        &json!({
            "messages": [{ "role": "user", "content": "Who keeps the Oslo ledger?" }], "max_tokens": 24,
            "briefing": { "trajectory": id, "handoff": handoff },
        }),
    );
    assert_eq!(told.status, 200, "{handoff}: {}", told.body);
    told.body
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap().trim()
}

/// Every way in which a trajectory reaches the worker gives through the server what it gives in one process.
#[test]
fn answers_are_those_of_a_session() {
    let (_server, client) = usual();
    let id = client.trajectory(&LINES);
    for handoff in [
        "latent-briefing",
        "latent-briefing:keep=0.5",
        "latent-briefing:keep=0.5,state=reuse",
        "renewed-briefing:keep=0.5,renew=4",
        "full-kv",
        "packed-kv:bits=8",
        "text-replay",
        "bm25:0.5",
        "recent:0.5",
        "random:0.5",
        "summary:20",
        "none",
    ] {
        let mut session = session(&LINES);
        let own =
            session.ask("Who keeps the Oslo ledger?").via(handoff.parse::<lb_session::Handoff>().unwrap());
        let own = own.at_most(24).run().unwrap();
        let told = ask(&client, &id, handoff);
        assert_eq!(text(&told), own.answer.text, "{handoff}");
        let usage = &told["usage"]["latent_briefing"];
        assert_eq!(usage["attended"], own.answer.tokens.attended, "{handoff}");
        assert_eq!(usage["prefilled"], own.answer.tokens.prefilled, "{handoff}");
        assert_eq!(usage["kept"], own.kept_len, "{handoff}");
        assert_eq!(told["usage"]["completion_tokens"], own.answer.tokens.generated, "{handoff}");
    }
}

#[test]
fn earlier_messages_are_a_document_of_this_call() {
    let (_server, client) = usual();
    let id = client.trajectory(&LINES[1..]);
    let mut session = session(&LINES[1..]);
    let task = lb_session::Task::about(format!("system: {}", LINES[0]), "Who keeps the Oslo ledger?");
    let own = session.ask(&task).via(lb_session::Handoff::FullKv).at_most(24).run().unwrap();
    let told = client.post(
        "/v1/chat/completions",
        &json!({
            "messages": [{ "role": "system", "content": LINES[0] }, { "role": "user", "content": "Who keeps the Oslo ledger?" }],
            "max_tokens": 24, "briefing": { "trajectory": id, "handoff": "full-kv" },
        }),
    );
    assert_eq!(text(&told.body), own.answer.text);
}

#[test]
fn a_trajectory_is_made_read_appended_to_forked_listed_and_deleted() {
    let (_server, client) = usual();
    let made = client.post("/v1/trajectories", &json!({ "id": "mine" }));
    assert_eq!((made.status, made.body["id"].as_str()), (201, Some("mine")));
    assert_eq!(client.post("/v1/trajectories", &json!({ "id": "mine" })).status, 409);
    let append = |at: Option<usize>, lines: &[&str]| {
        let segments: Vec<Value> = lines.iter().map(|text| json!({ "text": text })).collect();
        client.post("/v1/trajectories/mine/segments", &json!({ "segments": segments, "at": at }))
    };
    let told = append(Some(0), &LINES[..2]);
    assert_eq!((told.status, told.body["segments"].as_u64()), (200, Some(2)), "{}", told.body);
    assert_eq!(told.body["appended"].as_array().unwrap().len(), 2);
    // The same again changes nothing; something else in its place is seen.
    assert_eq!(append(Some(0), &LINES[..2]).body["segments"], 2);
    assert_eq!(append(Some(0), &LINES[2..]).status, 409);
    assert_eq!(append(Some(7), &LINES[2..]).status, 409);
    assert_eq!(append(None, &[]).status, 400);
    assert_eq!(append(None, &["  "]).status, 400);

    let fork = client.post("/v1/trajectories/mine/fork", &json!({ "id": "other" }));
    assert_eq!(fork.status, 201, "{}", fork.body);
    append(None, &LINES[2..]);
    assert_eq!(client.get("/v1/trajectories/mine").body["segments"], 4);
    assert_eq!(client.get("/v1/trajectories/other").body["segments"], 2);
    // A text alone is a finding.
    let plain = client
        .post("/v1/trajectories", &json!({ "id": "plain", "segments": [LINES[0], { "text": LINES[1] }] }));
    assert_eq!((plain.status, plain.body["segments"].as_u64()), (201, Some(2)), "{}", plain.body);
    let told = client.get("/v1/trajectories/plain/segments").body;
    assert_eq!((&told["data"][0]["text"], &told["data"][0]["source"]), (&json!(LINES[0]), &json!("finding")));
    assert_eq!(client.delete("/v1/trajectories/plain").status, 200);
    let segments = client.get("/v1/trajectories/mine/segments").body;
    let texts: Vec<&str> =
        segments["data"].as_array().unwrap().iter().map(|s| s["text"].as_str().unwrap()).collect();
    assert_eq!(texts, LINES);
    assert_eq!(
        text(&ask(&client, "other", "full-kv")),
        session(&LINES[..2])
            .ask("Who keeps the Oslo ledger?")
            .via(lb_session::Handoff::FullKv)
            .at_most(24)
            .run()
            .unwrap()
            .answer
            .text
    );

    let all = client.get("/v1/trajectories").body;
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    assert_eq!(client.delete("/v1/trajectories/mine").body["deleted"], true);
    assert_eq!(client.delete("/v1/trajectories/mine").status, 404);
    assert_eq!(client.get("/v1/trajectories/mine").status, 404);
    assert_eq!(client.get("/v1/trajectories/other").status, 200);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let (_server, client) = usual();
    for (body, says) in [
        (json!({ "id": "../../etc/passwd" }), "id"),
        (json!({ "id": "" }), "id"),
        (json!({ "segments": [{ "text": "x", "source": "gossip" }] }), "segments[0].source"),
        (json!({ "segments": [{ "text": "" }] }), "segments[0].text"),
        (json!({ "segments": [{ "txt": "x" }] }), "segments[0]"),
        (json!({ "segments": ["", "x"] }), "segments[0].text"),
        (json!({ "segments": ["x", 7] }), "segments[1]"),
        (json!({ "colour": "red" }), "colour"),
    ] {
        let told = client.post("/v1/trajectories", &body);
        assert_eq!(told.status, 400, "{body}: {}", told.body);
        let error = told.body["error"].to_string();
        assert!(error.contains(says), "{body}: {error}");
    }
    let long = client.post("/v1/trajectories", &json!({ "segments": [{ "text": "word ".repeat(30_000) }] }));
    assert_eq!(long.body["error"]["code"], "context_length_exceeded", "{}", long.body);
    // Nothing of it is left.
    assert_eq!(client.get("/v1/trajectories").body["data"], json!([]));
    let id = client.trajectory(&LINES);
    for handoff in [
        json!("latent-briefing:vectors=/etc/passwd"),
        json!("latent-briefing:keep=7"),
        json!("telepathy"),
        json!("latent-briefing:pieces=2"),
        json!({ "latent-briefing": { "queries": { "self-study": { "prompts": ["x"], "max_new_tokens": 5000, "temperature": 0.0, "seed": 0 } } } }),
        json!(7),
        json!({ "latent-briefing": { "colour": 1 } }),
    ] {
        let told = client.post("/v1/chat/completions", &json!({
            "messages": [{ "role": "user", "content": "x" }], "briefing": { "trajectory": id, "handoff": handoff },
        }));
        assert_eq!(told.status, 400, "{handoff}: {}", told.body);
        assert!(told.body["error"]["param"].as_str().unwrap().starts_with("briefing"), "{}", told.body);
    }
}

/// Beyond the bound of memory caches rest in files, and answers are the same.
#[test]
fn what_does_not_fit_in_memory_comes_back() {
    let mut small = config();
    small.memory = 1;
    let (_server, client) = serve(small);
    let ids: Vec<String> = (0..3).map(|_| client.trajectory(&LINES)).collect();
    let rested = |client: &Client| {
        let all = client.get("/v1/trajectories").body;
        all["data"].as_array().unwrap().iter().filter(|t| t["cache_bytes"] == 0).count()
    };
    until(|| rested(&client) == 2);
    let own = session(&LINES)
        .ask("Who keeps the Oslo ledger?")
        .via(lb_session::Handoff::FullKv)
        .at_most(24)
        .run()
        .unwrap();
    for id in &ids {
        let told = ask(&client, id, "full-kv");
        assert_eq!(text(&told), own.answer.text);
        // Read from the file: nothing of the trajectory is computed for it.
        assert!(told["usage"]["latent_briefing"]["prefilled"].as_u64().unwrap() < 30);
    }
}

#[test]
fn a_trajectory_without_use_is_forgotten_in_time() {
    let (_server, client) = usual();
    client.post("/v1/trajectories", &json!({ "id": "short", "ttl_seconds": 1 }));
    assert_eq!(client.get("/v1/trajectories/short").status, 200);
    until(|| client.get("/v1/trajectories").body["data"] == json!([]));
    assert_eq!(client.get("/v1/trajectories/short").status, 404);
    until(|| client.metric("latent_briefing_trajectories") == 0);
}

#[test]
fn the_last_briefings_can_be_looked_at() {
    let (_server, client) = usual();
    let id = client.trajectory(&LINES);
    for _ in 0..4 {
        ask(&client, &id, "latent-briefing:keep=0.3");
    }
    let told = client.get(&format!("/v1/trajectories/{id}/briefings")).body;
    let calls = told["data"].as_array().unwrap();
    assert_eq!(calls.len(), 3);
    let call = &calls[2];
    let pieces: String =
        call["pieces"].as_array().unwrap().iter().map(|piece| piece.as_str().unwrap()).collect();
    assert!(pieces.contains(LINES[3]), "{pieces}");
    assert_eq!(call["pieces"].as_array().unwrap().len(), call["kept_by"].as_array().unwrap().len());
    let kept: f64 = call["kept_by"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
    let count = call["usage"]["kept"].as_f64().unwrap();
    assert!((kept - count).abs() < 0.1 * count + 1.0, "{kept} of {count}");
}
