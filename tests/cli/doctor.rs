//! `doctor`: what works here, and what would not.

use serde_json::Value;

use super::ran;
use crate::support::latent_briefing;

fn finding<'a>(findings: &'a Value, what: &str) -> &'a Value {
    let all = findings.as_array().unwrap();
    all.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("no {what}: {findings}"))
}

#[test]
fn everything_is_looked_at() {
    let home = tempfile::tempdir().unwrap();
    let output = latent_briefing().args(["doctor", "--json"]).env("HF_HOME", home.path()).output().unwrap();
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{findings}");
    for (what, state) in [
        ("build", "ok"),
        ("cores", "ok"),
        ("temp", "ok"),
        ("cache", "ok"),
        ("hub", "absent"),
        ("sandbox", "ok"),
        ("speed", "ok"),
    ] {
        assert_eq!(finding(&findings, what)["state"], state, "{what}: {findings}");
    }
    assert!(finding(&findings, "hub")["said"].as_str().unwrap().contains("offline"), "{findings}");
    let speed = finding(&findings, "speed");
    for rate in ["prefill_per_s", "decode_per_s", "compaction_ms"] {
        assert!(speed[rate].as_f64().unwrap() > 0.0, "{speed}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn what_should_work_and_does_not_is_a_failure() {
    let ended = ran(["doctor", "--worker", "/no/such/model"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.out.contains("speed     FAILED: ") && ended.out.contains("/no/such/model"),
        "{}",
        ended.out
    );
    let output = latent_briefing()
        .args(["doctor", "--no-speed", "--json"])
        .env("HF_HUB_CACHE", "$LB_TEST_UNSET/hub")
        .output()
        .unwrap();
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &finding(&findings, "cache")["state"]), (Some(1), &"failed".into()));
}

#[test]
fn a_hub_that_does_not_answer_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let output = latent_briefing()
        .args(["doctor", "--no-speed", "--json"])
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "0")
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{findings}");
    let hub = finding(&findings, "hub");
    assert!(hub["state"] == "absent" && hub["said"].as_str().unwrap().contains("does not answer"), "{hub}");
}
