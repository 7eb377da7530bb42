//! What outlives a server, and what several servers share.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lb_serve::{Running, Server};
use lb_session::{Handoff, OpenSession, Segment};
use serde_json::{Value, json};

use crate::support::{Client, LINES, config, until, worker};

fn over(folder: &Path) -> (Running, Client) {
    let mut config = config();
    config.store = Some(folder.to_str().unwrap().to_owned());
    let server = Server::start(worker(), config).unwrap();
    let client = Client::of(&server, None);
    (server, client)
}

fn ask(client: &Client, briefing: &Value) -> Value {
    let told = client.post(
        "/v1/chat/completions",
        &json!({
            "messages": [{ "role": "user", "content": "Who keeps the Oslo ledger?" }], "max_tokens": 24, "briefing": briefing,
        }),
    );
    assert_eq!(told.status, 200, "{}", told.body);
    told.body
}

fn text(answer: &Value) -> String {
    answer["choices"][0]["message"]["content"].as_str().unwrap().trim().to_owned()
}

fn alone(lines: &[&str], handoff: &str) -> String {
    let mut session = worker().session().unwrap();
    for line in lines {
        session.extend(Segment::finding(*line)).unwrap();
    }
    let handoff: Handoff = handoff.parse().unwrap();
    session.ask("Who keeps the Oslo ledger?").via(handoff).at_most(24).run().unwrap().answer.text
}

fn texts(client: &Client, id: &str) -> Vec<String> {
    let told = client.get(&format!("/v1/trajectories/{id}/segments"));
    assert_eq!(told.status, 200, "{}", told.body);
    let segments = told.body["data"].as_array().unwrap();
    segments.iter().map(|segment| segment["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_server_that_starts_anew_has_its_trajectories() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<&str> = LINES.iter().copied().cycle().take(40).collect();
    let (server, client) = over(folder.path());
    let long = client.trajectory(&lines);
    let short = client.trajectory(&LINES[..2]);
    client.post("/v1/trajectories", &json!({ "id": "gone" }));
    assert_eq!(client.delete("/v1/trajectories/gone").status, 200);
    server.stop();

    let (_server, client) = over(folder.path());
    let names: Vec<Value> = client.get("/v1/trajectories").body["data"].as_array().unwrap().clone();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(client.get("/v1/trajectories/gone").status, 404);
    assert_eq!(texts(&client, &long), lines);
    let before = client.metric("latent_briefing_prefilled_tokens_total");
    let told = ask(&client, &json!({ "trajectory": long, "handoff": "full-kv" }));
    assert_eq!(text(&told), alone(&lines, "full-kv"));
    // Its cache was taken from the store: what was read is the task.
    assert!(client.metric("latent_briefing_prefilled_tokens_total") - before < 40);
    assert_eq!(client.metric("latent_briefing_replays_total"), 0);
    let told = ask(&client, &json!({ "trajectory": short, "handoff": "full-kv" }));
    assert_eq!(text(&told), alone(&LINES[..2], "full-kv"));
    // And it goes on.
    let path = format!("/v1/trajectories/{long}/segments");
    assert_eq!(client.post(&path, &json!({ "at": 40, "segments": [{ "text": "The end." }] })).status, 200);
    assert_eq!(texts(&client, &long).len(), 41);
}

/// A damaged cache is not taken; the text is read again, and that is counted.
#[test]
fn what_is_damaged_in_the_store_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<&str> = LINES.iter().copied().cycle().take(40).collect();
    let (server, client) = over(folder.path());
    let id = client.trajectory(&lines);
    let told = client
        .post(&format!("/v1/trajectories/{id}/briefings"), &json!({ "task": "Who keeps the Oslo ledger?" }));
    assert_eq!(told.status, 201, "{}", told.body);
    let object = told.body["id"].as_str().unwrap().to_owned();
    server.stop();
    let mut flipped = 0;
    for file in files(&folder.path().join("objects")) {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        flipped += 1;
    }
    assert_eq!(flipped, 2);
    let (_server, client) = over(folder.path());
    assert_eq!(
        text(&ask(&client, &json!({ "trajectory": id, "handoff": "full-kv" }))),
        alone(&lines, "full-kv")
    );
    assert_eq!(client.metric("latent_briefing_replays_total"), 1);
    let mut request =
        json!({ "messages": [{ "role": "user", "content": "x" }], "briefing": { "object": object } });
    let told = client.post("/v1/chat/completions", &request);
    assert_eq!(told.status, 503, "{}", told.body);
    assert!(told.body["error"]["message"].as_str().unwrap().contains("damaged"), "{}", told.body);
    request["briefing"]["object"] = "0".repeat(64).into();
    assert_eq!(client.post("/v1/chat/completions", &request).status, 404);
    request["briefing"]["object"] = "../../etc/passwd".into();
    assert_eq!(client.post("/v1/chat/completions", &request).status, 404);
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn servers_that_share_a_store_see_what_the_others_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let ((_one, one), (_two, two)) = (over(folder.path()), over(folder.path()));
    let id = one.trajectory(&LINES[..2]);
    assert_eq!(
        text(&ask(&two, &json!({ "trajectory": id, "handoff": "full-kv" }))),
        alone(&LINES[..2], "full-kv")
    );
    let path = format!("/v1/trajectories/{id}/segments");
    let append = |client: &Client, line: &str| client.post(&path, &json!({ "segments": [{ "text": line }] }));
    assert_eq!(append(&two, LINES[2]).status, 200);
    assert_eq!(append(&one, LINES[3]).status, 200);
    for client in [&one, &two] {
        assert_eq!(texts(client, &id), LINES);
        assert_eq!(
            text(&ask(client, &json!({ "trajectory": id, "handoff": "full-kv" }))),
            alone(&LINES, "full-kv")
        );
    }
    // Both at once: everything is there, once.
    std::thread::scope(|scope| {
        for (name, client) in [("one", &one), ("two", &two)] {
            let append = &append;
            scope.spawn(move || {
                for number in 0..6 {
                    let told = append(client, &format!("{name} {number}"));
                    assert_eq!(told.status, 200, "{}", told.body);
                }
            });
        }
    });
    let all = texts(&one, &id);
    assert_eq!(all, texts(&two, &id));
    for name in ["one", "two"] {
        let own: Vec<&String> = all.iter().filter(|text| text.starts_with(name)).collect();
        assert_eq!(
            own,
            (0..6).map(|number| format!("{name} {number}")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
    }
    assert_eq!(one.delete(&format!("/v1/trajectories/{id}")).status, 200);
    assert_eq!(two.get(&format!("/v1/trajectories/{id}")).status, 404);
    assert_eq!(append(&two, "late").status, 404);
}

#[test]
fn a_briefing_made_by_one_server_is_answered_over_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let ((_one, one), (_two, two)) = (over(folder.path()), over(folder.path()));
    let id = one.trajectory(&LINES);
    let handoff = "latent-briefing:keep=0.5";
    let made = one.post(
        &format!("/v1/trajectories/{id}/briefings"),
        &json!({ "task": "Who keeps the Oslo ledger?", "handoff": handoff }),
    );
    assert_eq!(made.status, 201, "{}", made.body);
    let object = made.body["id"].as_str().unwrap();
    let told = ask(&two, &json!({ "object": object }));
    assert_eq!(text(&told), alone(&LINES, handoff));
    let usage = &told["usage"]["latent_briefing"];
    assert_eq!(usage["kept"], made.body["usage"]["kept"]);
    assert!(usage["prefilled"].as_u64().unwrap() < 30);
    // The same again is the same object.
    let again = two.post(
        &format!("/v1/trajectories/{id}/briefings"),
        &json!({ "task": "Who keeps the Oslo ledger?", "handoff": "latent-briefing:keep=0.5,state=reuse" }),
    );
    assert_eq!(again.status, 400, "{}", again.body);
    let both = two.post("/v1/chat/completions", &json!({
        "messages": [{ "role": "user", "content": "x" }], "briefing": { "object": object, "trajectory": id },
    }));
    assert_eq!(both.status, 400);
}

/// A name that is taken is refused, and what has it stays: after a new start, with another server, however it is asked for.
#[test]
fn a_refused_creation_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = over(folder.path());
    let create = |client: &Client, id: &str, text: &str| {
        client.post("/v1/trajectories", &json!({ "id": id, "segments": [{ "text": text }] })).status
    };
    assert_eq!(create(&client, "mine", LINES[0]), 201);
    assert_eq!(create(&client, "mine", LINES[1]), 409);
    server.stop();
    let ((_one, one), (_two, two)) = (over(folder.path()), over(folder.path()));
    assert_eq!(create(&one, "mine", LINES[1]), 409);
    assert_eq!(create(&two, "mine", LINES[1]), 409);
    assert_eq!(
        (texts(&one, "mine"), texts(&two, "mine")),
        (vec![LINES[0].to_owned()], vec![LINES[0].to_owned()])
    );
    // A text that does not fit leaves the name free.
    assert_eq!(create(&one, "late", &"word ".repeat(30_000)), 400);
    assert_eq!(create(&one, "late", LINES[0]), 201);
    // Both at once: one of them has it.
    for round in 0..6 {
        let id = format!("both{round}");
        let made = std::thread::scope(|scope| {
            let both = [&one, &two].map(|client| {
                let (id, create) = (&id, &create);
                scope.spawn(move || create(client, id, "ok."))
            });
            both.map(|thread| thread.join().unwrap())
        });
        let mut made = made;
        made.sort_unstable();
        assert_eq!(made, [201, 409], "{id}");
        assert_eq!((texts(&one, &id), texts(&two, &id)), (vec!["ok.".to_owned()], vec!["ok.".to_owned()]));
    }
}

/// The same text twice is two segments.
#[test]
fn servers_that_append_the_same_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let ((_one, one), (_two, two)) = (over(folder.path()), over(folder.path()));
    let id = one.trajectory(&LINES[..1]);
    let path = format!("/v1/trajectories/{id}/segments");
    std::thread::scope(|scope| {
        for client in [&one, &two] {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..8 {
                    assert_eq!(client.post(path, &json!({ "segments": [{ "text": "ok." }] })).status, 200);
                }
            });
        }
    });
    for client in [&one, &two] {
        assert_eq!(texts(client, &id).len(), 17);
    }
}

/// Where another server keeps a store's times, nothing with a time to live is served by this one: it would not know when it is used.
#[test]
fn times_to_live_are_one_servers() {
    let folder = tempfile::tempdir().unwrap();
    let ((_one, one), (_two, two)) = (over(folder.path()), over(folder.path()));
    let create = json!({ "id": "short", "ttl_seconds": 100, "segments": [{ "text": LINES[0] }] });
    assert_eq!(two.post("/v1/trajectories", &create).status, 400);
    assert_eq!(one.post("/v1/trajectories", &create).status, 201);
    let told = two.get("/v1/trajectories/short");
    assert_eq!(told.status, 409, "{}", told.body);
    assert!(told.body["error"]["message"].as_str().unwrap().contains("--index"), "{}", told.body);
    let zero = one.post("/v1/trajectories", &json!({ "ttl_seconds": 0 }));
    assert_eq!((zero.status, zero.body["error"]["param"].as_str()), (400, Some("ttl_seconds")));
    let soon = json!({ "id": "soon", "ttl_seconds": 1, "segments": [{ "text": LINES[0] }] });
    assert_eq!(one.post("/v1/trajectories", &soon).status, 201);
    until(|| one.get("/v1/trajectories/soon").status == 404);
    assert_eq!(one.get("/v1/trajectories/short").status, 200);
}

/// Serves in a process of its own, to be killed; does nothing as a test.
#[test]
fn child() {
    let Ok(folder) = std::env::var("LB_SERVE_CHILD") else { return };
    let (server, _) = over(Path::new(&folder));
    println!("\nat {}", server.address());
    server.wait().unwrap();
}

fn process(folder: &Path) -> (Child, Client) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stored::child", "--nocapture", "--test-threads", "1"])
        .env("LB_SERVE_CHILD", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("a line with its address").unwrap();
        if let Some(address) = line.strip_prefix("at ") {
            break address.to_owned();
        }
    };
    // What else it says is not read; it says little.
    (child, Client::at(&address))
}

/// Killed at any moment, a server loses nothing that it said was there, and makes nothing up.
#[test]
fn a_killed_server_has_everything_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut sent: Vec<String> = Vec::new();
    for round in 0_u64..20 {
        let (mut child, client) = process(folder.path());
        if round == 0 {
            assert_eq!(client.post("/v1/trajectories", &json!({ "id": "mine" })).status, 201);
        }
        let there = texts(&client, "mine");
        // In order, everything acknowledged and nothing that was not sent.
        let mut rest = there.iter();
        for line in &acknowledged {
            assert!(rest.any(|there| there == line), "{line} of round {round} is lost");
        }
        assert!(there.iter().all(|line| sent.contains(line)));
        let unique: std::collections::HashSet<&String> = there.iter().collect();
        assert_eq!(unique.len(), there.len());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20 + 37 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        for number in 0.. {
            let line = format!("Line {number} of round {round}.");
            sent.push(line.clone());
            match client
                .try_post("/v1/trajectories/mine/segments", &json!({ "segments": [{ "text": line }] }))
            {
                Some(told) if told.status == 200 => acknowledged.push(line),
                Some(told) => panic!("{} {}", told.status, told.body),
                None => break,
            }
        }
        killer.join().unwrap();
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
}

#[cfg(unix)]
#[test]
fn sigterm_ends_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, client) = process(folder.path());
    let lines: Vec<&str> = LINES.iter().copied().cycle().take(40).collect();
    let id = client.trajectory(&lines);
    let ended = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    until(|| child.try_wait().unwrap().is_some());
    // By itself, not by the signal. (Nobody reads what the harness says at its end.)
    assert!(child.wait().unwrap().code().is_some());
    let (_server, client) = over(folder.path());
    assert_eq!(
        text(&ask(&client, &json!({ "trajectory": id, "handoff": "full-kv" }))),
        alone(&lines, "full-kv")
    );
    assert_eq!(client.metric("latent_briefing_replays_total"), 0);
}

#[test]
fn with_a_store_a_server_forgets_what_it_can_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.store = Some(folder.path().to_str().unwrap().to_owned());
    config.trajectories = 3;
    let server = Server::start(worker(), config).unwrap();
    let client = Client::of(&server, None);
    let all: Vec<String> = (0..6).map(|number| client.trajectory(&LINES[..2 + number % 3])).collect();
    for (number, id) in all.iter().enumerate() {
        let lines = &LINES[..2 + number % 3];
        assert_eq!(texts(&client, id), lines, "{id}");
        let told = ask(&client, &json!({ "trajectory": id, "handoff": "full-kv" }));
        assert_eq!(text(&told), alone(lines, "full-kv"), "{id}");
    }
    let listed = client.get("/v1/trajectories").body["data"].as_array().unwrap().len();
    assert_eq!(listed, 6);
    let known = client.get("/v1/status").body["trajectories"].as_array().unwrap().len();
    assert!(known <= 3, "{known} in memory");
    server.stop();

    // Without a store a trajectory is nowhere else: the bound is a bound.
    let mut config = crate::support::config();
    config.trajectories = 2;
    let server = Server::start(worker(), config).unwrap();
    let client = Client::of(&server, None);
    let (first, _) = (client.trajectory(&LINES[..2]), client.trajectory(&LINES[..2]));
    let told = client.post("/v1/trajectories", &json!({ "segments": [{ "text": "One more." }] }));
    assert_eq!(told.status, 409, "{}", told.body);
    assert_eq!(texts(&client, &first), LINES[..2]);
    server.stop();
}
