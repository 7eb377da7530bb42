//! `fetch`, and models by name.

use serde_json::Value;

use crate::support::checkpoints::{TIED, golden};
use crate::support::hub_server::HubServer;
use crate::support::latent_briefing;

#[test]
fn a_checkpoint_is_fetched_once_and_found_again() {
    let (server, home) = (HubServer::of(&golden(TIED)), tempfile::tempdir().unwrap());
    let fetch = |offline: &str| {
        latent_briefing()
            .args(["fetch", "org/tiny", "--json"])
            .env("HF_HUB_OFFLINE", offline)
            .env("HF_ENDPOINT", server.url())
            .env("HF_HOME", home.path())
            .output()
            .unwrap()
    };
    let offline = fetch("1");
    assert_eq!(offline.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&offline.stdout).unwrap();
    assert!(told["error"].as_str().unwrap().contains("org/tiny"), "{told}");
    let fetched = fetch("0");
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let told: Value = serde_json::from_slice(&fetched.stdout).unwrap();
    let path = std::path::Path::new(told["path"].as_str().unwrap());
    assert!(path.starts_with(home.path()) && path.join("config.json").is_file(), "{told}");
    assert_eq!(fetch("1").stdout, fetched.stdout, "the cache has it");
    let doctor = latent_briefing()
        .args(["doctor", "--no-speed", "--json"])
        .env("HF_HUB_OFFLINE", "0")
        .env("HF_ENDPOINT", server.url())
        .env("HF_HOME", home.path())
        .output()
        .unwrap();
    let findings: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let said = |what: &str| {
        let finding = findings.as_array().unwrap().iter().find(|finding| finding["what"] == what).unwrap();
        finding["said"].as_str().unwrap().to_owned()
    };
    assert!(said("cache").contains("1 models"), "{findings}");
    assert!(said("hub").contains("answers in"), "{findings}");
}
