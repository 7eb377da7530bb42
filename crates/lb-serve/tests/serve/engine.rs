//! Many requests at once: what waits, what is refused, what is called off.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, LINES, chat, config, serve, until, usual};

/// A request whose answer is read by hand.
fn open(server: &lb_serve::Running, body: &Value) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let body = body.to_string();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    BufReader::new(stream)
}

/// Something that takes long: a text that the worker goes on with.
fn long() -> Value {
    json!({ "prompt": "The ledger of Oslo, the ledger of Turin,", "max_tokens": 4000, "temperature": 1.0, "seed": 1, "stream": true, "ignore_eos": true })
}

fn first_piece(reader: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0);
    }
}

#[test]
fn answers_that_are_written_together_are_those_written_alone() {
    let (_server, client) = usual();
    let ids: Vec<String> = (1..=LINES.len()).map(|lines| client.trajectory(&LINES[..lines])).collect();
    let requests: Vec<Value> = (0..24)
        .map(|number| {
            let mut request = chat(
                ["Who keeps the Oslo ledger?", "Who keeps the Turin ledger?", "How many pages?"][number % 3],
            );
            if number % 4 > 0 {
                let handoff = ["full-kv", "latent-briefing:keep=0.5", "text-replay"][number % 3];
                request["briefing"] = json!({ "trajectory": ids[number % ids.len()], "handoff": handoff });
            }
            request
        })
        .collect();
    let text = |client: &Client, request: &Value| {
        let told = client.post("/v1/chat/completions", request);
        assert_eq!(told.status, 200, "{}", told.body);
        told.body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    let alone: Vec<String> = requests.iter().map(|request| text(&client, request)).collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let (client, text) = (&client, &text);
        let threads: Vec<_> =
            requests.iter().map(|request| scope.spawn(move || text(client, request))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let mut narrow = config();
    (narrow.parallel, narrow.queue) = (1, 1);
    let (server, client) = serve(narrow);
    let mut one = open(&server, &long());
    first_piece(&mut one);
    let _two = open(&server, &long());
    until(|| client.metric("latent_briefing_waiting") == 1);
    let told = client.post("/v1/chat/completions", &chat("x"));
    assert_eq!((told.status, told.body["error"]["code"].as_str()), (429, Some("queue_full")));
    assert!(told.retry_after.unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(client.get("/readyz").status, 503);
}

#[test]
fn whoever_goes_away_is_not_written_for() {
    let (server, client) = usual();
    let mut one = open(&server, &long());
    first_piece(&mut one);
    assert_eq!(client.metric("latent_briefing_running"), 1);
    drop(one);
    until(|| client.metric("latent_briefing_running") == 0);
}

#[test]
fn a_request_that_is_late_is_told_so() {
    let mut hasty = config();
    hasty.request_time = Duration::from_millis(300);
    let (_server, client) = serve(hasty);
    let mut request = long();
    request["stream"] = false.into();
    let begin = Instant::now();
    let told = client.post("/v1/completions", &request);
    assert_eq!((told.status, told.body["error"]["code"].as_str()), (504, Some("timeout")), "{}", told.body);
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(
        client
            .post(
                "/v1/chat/completions",
                &json!({ "messages": [{ "role": "user", "content": "x" }], "max_tokens": 1 })
            )
            .status,
        200
    );
}

#[test]
fn an_end_in_good_order_finishes_what_is_under_way() {
    let (server, client) = usual();
    let address = server.address();
    let request = json!({ "prompt": "The ledger of Oslo,", "max_tokens": 200, "temperature": 1.0, "seed": 3, "stream": true, "ignore_eos": true });
    let whole = client.stream("/v1/completions", &request);
    let mut one = open(&server, &request);
    first_piece(&mut one);
    server.stop();
    let mut rest = String::new();
    one.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    assert_eq!(rest.matches("data: ").count() + 1, whole.len());
    assert!(TcpStream::connect(address).is_err());
}

/// Whoever has gone is left out of the queue, and makes room there.
#[test]
fn a_queue_of_those_who_have_gone_has_room() {
    let mut narrow = config();
    (narrow.parallel, narrow.queue) = (1, 4);
    let (server, client) = serve(narrow);
    let mut one = open(&server, &long());
    first_piece(&mut one);
    let gone: Vec<_> = (0..4).map(|_| open(&server, &long())).collect();
    until(|| client.metric("latent_briefing_waiting") == 4);
    drop(gone);
    until(|| client.get("/readyz").status == 200);
    drop(one);
    assert_eq!(client.post("/v1/chat/completions", &chat("x")).status, 200);
}

/// Answers that would take longer than the server has end, and what is to be stored is stored.
#[test]
fn an_end_does_not_wait_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let mut hasty = config();
    (hasty.parallel, hasty.drain_time) = (1, Duration::from_millis(300));
    hasty.store = Some(folder.path().to_str().unwrap().to_owned());
    let (server, client) = serve(hasty.clone());
    let lines: Vec<&str> = LINES.iter().copied().cycle().take(40).collect();
    let id = client.trajectory(&lines);
    let mut waiting: Vec<_> = (0..6).map(|_| open(&server, &long())).collect();
    first_piece(&mut waiting[0]);
    let begin = Instant::now();
    server.stop();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let (_server, client) = serve(hasty);
    let mut about = chat("Who keeps the Oslo ledger?");
    about["briefing"] = json!({ "trajectory": id, "handoff": "full-kv" });
    assert_eq!(client.post("/v1/chat/completions", &about).status, 200);
    assert_eq!(client.metric("latent_briefing_replays_total"), 0);
    assert!(client.metric("latent_briefing_prefilled_tokens_total") < 40);
}

/// A stream that tells nothing before its end is given up as well when nobody listens.
#[test]
fn a_silent_stream_ends_with_its_client() {
    let (server, client) = usual();
    let mut request = long();
    request["messages"] = json!([{ "role": "user", "content": "x" }]);
    request["tools"] =
        json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }]);
    let body = request.to_string();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    until(|| client.metric("latent_briefing_running") == 1);
    drop(stream);
    until(|| client.metric("latent_briefing_running") == 0);
}
