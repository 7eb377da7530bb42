//! What operating a server wants: the page, the document, the counters.

use serde_json::Value;

use crate::support::{LINES, chat, usual};

#[test]
fn the_document_names_what_is_there_and_every_reference_leads_somewhere() {
    let (_server, client) = usual();
    let document = client.get("/openapi.json").body;
    assert_eq!(document, lb_serve::openapi());
    for (path, operations) in document["paths"].as_object().unwrap() {
        let at = path.replace("{id}", "none");
        for method in operations.as_object().unwrap().keys() {
            let told = match method.as_str() {
                "get" => client.get(&at),
                "post" => client.post(&at, &Value::Null),
                "delete" => client.delete(&at),
                other => panic!("{other}"),
            };
            // A route that is not there says so in other words than a thing that is not.
            assert_ne!(told.status, 405, "{method} {path}");
            let message = told.body["error"]["message"].as_str().unwrap_or_default();
            assert!(!message.contains(&format!("there is no {at}")), "{method} {path}: {message}");
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let (_server, client) = usual();
    let page = client.text("/");
    assert!(page.contains("<title>latent-briefing</title>"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    client.trajectory(&LINES);
    let status = client.get("/v1/status").body;
    assert_eq!(status["trajectories"].as_array().unwrap().len(), 1);
    assert_eq!(status["model"], "embedded");
}

#[test]
fn counters_count() {
    let (_server, client) = usual();
    let told = client.post("/v1/chat/completions", &chat("Who keeps the Oslo ledger?"));
    let usage = &told.body["usage"];
    assert_eq!(
        client.metric("latent_briefing_generated_tokens_total"),
        usage["completion_tokens"].as_u64().unwrap() as usize
    );
    assert_eq!(
        client.metric("latent_briefing_prefilled_tokens_total"),
        usage["prompt_tokens"].as_u64().unwrap() as usize
    );
    client.post("/v1/chat/completions", &Value::Null);
    let text = client.text("/metrics");
    for line in [
        "latent_briefing_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "latent_briefing_requests_total{route=\"/v1/chat/completions\",status=\"400\"} 1",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}
