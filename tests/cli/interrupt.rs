//! Ctrl-C ends what is under way in good order.
#![cfg(unix)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::latent_briefing;

#[test]
fn a_benchmark_that_is_called_off_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("rows");
    let arguments = |episodes: &'static str| {
        let fixed =
            ["bench", "episodes", "--episodes", episodes, "--questions", "1", "--tokens", "128", "256"];
        fixed.into_iter().chain(["--handoff", "full-kv,none", "--json"])
    };
    let mut child = latent_briefing()
        .args(arguments("10000"))
        .arg("--out")
        .arg(&dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while std::fs::read(dir.join("rows.jsonl")).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(2), "no row came");
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = std::fs::read_to_string(dir.join("rows.jsonl")).unwrap();
    assert_eq!(
        (told["cancelled"].as_bool(), told["rows"].as_u64()),
        (Some(true), Some(rows.lines().count() as u64))
    );
    assert!(rows.ends_with('\n'));
}
