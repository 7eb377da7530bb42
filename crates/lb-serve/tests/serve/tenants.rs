//! Keys, and that nobody sees what is another's.

use lb_serve::{Keys, Server};
use serde_json::json;

use crate::support::{Client, LINES, chat, config, worker};

#[test]
fn without_keys_only_this_machine_is_answered() {
    let mut open = config();
    open.listen = ([0, 0, 0, 0], 0).into();
    let error = Server::start(worker(), open).unwrap_err().to_string();
    assert!(error.contains("keys"), "{error}");
}

#[test]
fn one_tenant_sees_nothing_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let [ana, bo, operator] = ["ana", "bo", "operator"].map(|name| Keys::add(&path, name).unwrap());
    let mut config = config();
    config.keys = Some(path);
    let server = Server::start(worker(), config).unwrap();
    let [none, ana, bo, operator] =
        [None, Some(ana), Some(bo), Some(operator)].map(|key| Client::of(&server, key.as_deref()));
    for told in [
        none.post("/v1/chat/completions", &chat("x")),
        none.get("/v1/trajectories"),
        none.get("/v1/status"),
        none.get("/metrics"),
    ] {
        assert_eq!((told.status, told.body["error"]["code"].as_str()), (401, Some("invalid_api_key")));
    }
    let wrong = Client::of(&server, Some("lb-0000"));
    assert_eq!(wrong.get("/v1/models").status, 401);
    assert_eq!(none.get("/healthz").status, 200);

    let id = ana.trajectory(&LINES);
    let path = format!("/v1/trajectories/{id}");
    assert_eq!(ana.get(&path).status, 200);
    assert_eq!(bo.get("/v1/trajectories").body["data"], json!([]));
    let mut about = chat("Who keeps it?");
    about["briefing"] = json!({ "trajectory": id });
    for told in [
        bo.get(&path),
        bo.delete(&path),
        bo.get(&format!("{path}/segments")),
        bo.get(&format!("{path}/briefings")),
        bo.post(&format!("{path}/segments"), &json!({ "segments": [{ "text": "x" }] })),
        bo.post(&format!("{path}/fork"), &json!({})),
        bo.post("/v1/chat/completions", &about),
    ] {
        assert_eq!(told.status, 404, "{}", told.body);
        // What is another's and what is nobody's are told in the same words.
        let own = bo.get("/v1/trajectories/traj_none").body.to_string().replace("traj_none", &id);
        assert_eq!(told.body.to_string(), own);
    }
    // The same name is another thing for another tenant.
    assert_eq!(bo.post("/v1/trajectories", &json!({ "id": id })).status, 201);
    assert_eq!(bo.get(&path).body["segments"], 0);
    assert_eq!(ana.get(&path).body["segments"], 4);

    // What one has had read is read again for the other.
    let question = chat(&"The Oslo ledger is kept by Ana. ".repeat(10));
    let reused = |client: &Client| {
        client.post("/v1/chat/completions", &question).body["usage"]["latent_briefing"]["reused"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(reused(&ana), 0);
    assert!(reused(&ana) > 0);
    assert_eq!(reused(&bo), 0);

    // Counts over all tenants are the operator's.
    assert_eq!(ana.get("/metrics").status, 401);
    assert_eq!(operator.get("/metrics").status, 200);
    assert!(ana.get("/v1/status").body["running"].is_null());
}
