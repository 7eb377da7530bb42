//! Hostile clients: slow, endless, malformed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, chat, config, serve, usual};

fn raw(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(bytes);
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    String::from_utf8_lossy(&told).into_owned()
}

#[test]
fn whoever_sends_slowly_is_let_go() {
    let mut hasty = config();
    hasty.body_time = Duration::from_millis(500);
    let (server, client) = serve(hasty);
    let begin = Instant::now();
    for begun in [
        &b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"[..],
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"prompt\"",
    ] {
        raw(server.address(), begun);
    }
    assert!(begin.elapsed() < Duration::from_secs(15));
    assert_eq!(client.post("/v1/chat/completions", &chat("x")).status, 200);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let mut small = config();
    small.max_body = 10_000;
    let (server, client) = serve(small);
    let told = client.post("/v1/chat/completions", &chat(&"x".repeat(20_000)));
    assert_eq!(told.status, 413, "{}", told.body);
    let chunked = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 5_000, "x".repeat(5_000));
    let told = raw(server.address(), [chunked, &chunk, &chunk, &chunk, "0\r\n\r\n"].concat().as_bytes());
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let told = raw(server.address(), head.as_bytes());
    assert!(
        told.is_empty() || told.starts_with("HTTP/1.1 431") || told.starts_with("HTTP/1.1 400"),
        "{told}"
    );
    let many: String = (0..500).map(|number| ["x", &number.to_string(), ": y\r\n"].concat()).collect();
    let told = raw(
        server.address(),
        format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{many}\r\n").as_bytes(),
    );
    assert!(
        told.is_empty() || told.starts_with("HTTP/1.1 431") || told.starts_with("HTTP/1.1 400"),
        "{told}"
    );
    assert_eq!(client.get("/healthz").status, 200);
}

/// What may stand where something else is wanted, and where.
fn oddities() -> (Vec<Value>, Vec<(&'static str, &'static str)>) {
    let values = vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(9_007_199_254_740_993_u64),
        json!(""),
        json!("\u{0}"),
        json!("../../etc/passwd"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({ "a": { "b": [] } }),
        json!("x".repeat(10_000)),
        json!([null, 1, "x"]),
        json!("<|im_end|>"),
        json!("\u{1b}[2J"),
    ];
    let fields = vec![
        ("/v1/chat/completions", "messages"),
        ("/v1/chat/completions", "model"),
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/chat/completions", "temperature"),
        ("/v1/chat/completions", "top_p"),
        ("/v1/chat/completions", "seed"),
        ("/v1/chat/completions", "stop"),
        ("/v1/chat/completions", "n"),
        ("/v1/chat/completions", "tools"),
        ("/v1/chat/completions", "stream_options"),
        ("/v1/chat/completions", "briefing"),
        ("/v1/chat/completions", "logprobs"),
        ("/v1/chat/completions", "chat_template_kwargs"),
        ("/v1/completions", "prompt"),
        ("/v1/completions", "logprobs"),
        ("/v1/messages", "messages"),
        ("/v1/messages", "system"),
        ("/v1/messages", "tools"),
        ("/v1/messages", "stop_sequences"),
        ("/v1/messages", "briefing"),
        ("/v1/messages/count_tokens", "messages"),
        ("/v1/trajectories", "id"),
        ("/v1/trajectories", "segments"),
        ("/v1/trajectories", "ttl_seconds"),
        ("/v1/trajectories", "system"),
        ("/v1/trajectories/none/segments", "segments"),
        ("/v1/trajectories/none/fork", "id"),
    ];
    (values, fields)
}

/// Fields that hold what they should not; how many.
fn odd_fields(client: &Client) -> usize {
    let (values, fields) = oddities();
    let mut count = 0;
    for (path, field) in fields {
        for value in &values {
            let mut body =
                json!({ "messages": [{ "role": "user", "content": "x" }], "max_tokens": 1, "prompt": "x" });
            if path.starts_with("/v1/trajectories") {
                body = json!({});
            }
            body[field] = value.clone();
            let told = client.post(path, &body);
            assert!(told.status < 500, "{path} {field} = {value}: {} {}", told.status, told.body);
            if told.status >= 400 {
                assert!(told.body["error"]["message"].is_string(), "{path} {field} = {value}: {}", told.body);
                assert!(told.body.to_string().len() < 3_000, "{path} {field}: {}", told.body);
            }
            count += 1;
        }
    }
    count
}

/// Bodies that are no JSON of a request; how many.
fn odd_bodies(client: &Client) -> usize {
    let mut count = 0;
    let deep = format!("{{\"messages\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let raw_bodies = [
        "{",
        "[]",
        "nul",
        "\u{feff}{}",
        "{\"a\":1}{\"b\":2}",
        &deep,
        "{\"messages\": [{\"role\": \"user\", \"role\": 1}]}",
    ];
    for body in raw_bodies {
        let told = client.post_text("/v1/chat/completions", body);
        assert_eq!(told.status, 400, "{}", told.body);
        count += 1;
    }
    count
}

/// Bytes that are no request; how many.
fn odd_bytes(address: std::net::SocketAddr) -> usize {
    let mut count = 0;
    for request in [
        "GET / HTTP/9.9\r\n\r\n",
        "\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "GET /v1/trajectories/%2e%2e%2f%2e%2e HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/models/%ff%fe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "TRACE / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut told = Vec::new();
        let _ = stream.read_to_end(&mut told);
        let told = String::from_utf8_lossy(&told);
        let status = told.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).unwrap_or(400);
        assert!((400..500).contains(&status), "{request:?}: {told}");
        count += 1;
    }
    count
}

/// 500 requests that are wrong in some way: each is named as such, and the server goes on.
#[test]
fn five_hundred_hostile_requests_are_refused_and_nothing_falls() {
    let (server, client) = usual();
    let sent = odd_fields(&client) + odd_bodies(&client) + odd_bytes(server.address());
    for number in sent..500 {
        // What is cut anywhere is no request.
        let body = chat("Who keeps the Oslo ledger?").to_string();
        let cut = 1 + (number * 7919) % (body.len() - 1);
        assert_eq!(client.post_text("/v1/chat/completions", &body[..cut]).status, 400);
    }
    assert_eq!(client.post("/v1/chat/completions", &chat("x")).status, 200);
}

/// A page of some other site, shown on this machine, reaches nothing.
#[test]
fn requests_by_way_of_another_site_are_refused() {
    let (server, client) = usual();
    let body = "{\"id\": \"planted\"}";
    let post = |head: &str| {
        let length = body.len();
        raw(server.address(), format!("POST /v1/trajectories HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{head}\r\n\r\n{body}").as_bytes())
    };
    for head in [
        "host: evil.example",
        "host: localhost\r\norigin: http://evil.example",
        "host: localhost\r\norigin: null",
        "host: 192.168.1.7:8080",
    ] {
        assert!(post(head).starts_with("HTTP/1.1 403"), "{head}");
    }
    assert_eq!(client.get("/v1/trajectories").body["data"], json!([]));
    for head in ["host: localhost:8080", "host: 127.0.0.1\r\norigin: http://localhost:3000", "host: [::1]:80"]
    {
        let told = post(head);
        assert!(told.starts_with("HTTP/1.1 201") || told.starts_with("HTTP/1.1 409"), "{head}: {told}");
    }
}

/// Numbers at the edge of what numbers can be are no fault of the server.
#[test]
fn the_coldest_and_the_narrowest_sampling_is_greedy() {
    let (_server, client) = usual();
    let greedy = client.post("/v1/chat/completions", &chat("Who keeps the Oslo ledger?")).body;
    for (temperature, top_p) in [(1e-300, 1.0), (1e-45, 0.5), (1e-5, 1.0), (1.0, 1e-300), (1.0, 1e-30)] {
        let mut request = chat("Who keeps the Oslo ledger?");
        request["temperature"] = temperature.into();
        request["top_p"] = top_p.into();
        let told = client.post("/v1/chat/completions", &request);
        assert_eq!(told.status, 200, "{temperature} {top_p}: {}", told.body);
        assert_eq!(
            told.body["choices"][0]["message"], greedy["choices"][0]["message"],
            "{temperature} {top_p}"
        );
    }
}
