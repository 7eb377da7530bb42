//! `bench` and `report`, each on as little as there can be.

use std::path::Path;

use serde_json::Value;

use super::{json_of, ran};

fn exists(told: &Value, name: &str) {
    let path = told[name].as_str().unwrap_or_else(|| panic!("no {name}: {told}"));
    assert!(Path::new(path).is_file(), "{path}");
}

#[test]
fn episodes_are_asked_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("rows");
    let arguments = [
        "bench",
        "episodes",
        "--episodes",
        "2",
        "--questions",
        "1",
        "--tokens",
        "128",
        "256",
        "--handoff",
        "full-kv,latent-briefing:keep=*,snapkv:keep=*",
        "--keep",
        "0.5",
        "--out",
        dir.to_str().unwrap(),
    ];
    let told = json_of(arguments);
    assert_eq!((told["rows"].as_u64(), told["cancelled"].as_bool()), (Some(6), Some(false)), "{told}");
    exists(&told, "report");
    assert!(told["summary"].is_object());
    // The folder is taken; it is gone on with where that is asked, and nothing is asked twice.
    let ended = ran(arguments);
    assert!(ended.code == 1 && ended.err.contains("resume"), "{}", ended.err);
    assert_eq!(json_of(arguments.into_iter().chain(["--resume"]))["resumed"], 6);

    let report = json_of(["report", dir.to_str().unwrap(), "--resamples", "100"]);
    for name in ["html", "markdown", "csv", "json"] {
        exists(&report, name);
    }
    assert_eq!(ran(["report", folder.path().to_str().unwrap()]).code, 1, "there are no rows");
}

#[test]
fn items_are_asked_through_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("items");
    let told = json_of([
        "bench",
        "items",
        "--ruler",
        "needle",
        "--lengths",
        "512",
        "--samples",
        "1",
        "--handoff",
        "full-kv,none",
        "--out",
        dir.to_str().unwrap(),
    ]);
    assert_eq!(told["rows"].as_u64(), Some(2), "{told}");
    exists(&told, "report");
    let ended = ran(["bench", "items", "--subset", "ids=no-such", "--out", dir.to_str().unwrap()]);
    assert!(ended.code != 0 && !ended.err.is_empty(), "{}", ended.err);
}

#[test]
fn logs_are_read_behind_every_handoff() {
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let arguments = ["bench", "logs", "--limit", "2", "--target-tokens", "4", "--handoff", "full-kv,none"];
    let told = json_of(arguments);
    assert_eq!(told["items"].as_u64(), Some(2), "{told}");
    let ended = ran(arguments.into_iter().chain(["--json", figures.to_str().unwrap()]));
    assert!(ended.code == 0 && ended.out.contains("full-kv"), "{}", ended.err);
    let written: Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    assert_eq!(written["items"], told["items"]);
    let ended = ran(["bench", "logs", "--data", "/no/such.jsonl", "--json"]);
    assert!(ended.code == 1 && ended.json()["error"].as_str().unwrap().contains("/no/such.jsonl"));
}

#[test]
fn a_recorded_run_is_replayed() {
    let told = json_of([
        "bench",
        "questions",
        "--episodes",
        "1",
        "--questions",
        "2",
        "--words",
        "60",
        "90",
        "--handoff",
        "full-kv;latent-briefing:keep=0.5",
    ]);
    let names: Vec<&str> =
        told.as_array().unwrap().iter().map(|row| row["handoff"].as_str().unwrap()).collect();
    assert_eq!(names, ["full-kv", "latent-briefing:keep=0.5"]);
}

#[test]
fn each_policy_is_measured_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rows = json_of(["bench", "policies", "--episodes", "1", "--questions", "3", "--share", "0.5"]);
    let named = |name: &str| {
        let all = rows.as_array().unwrap().iter();
        all.clone().find(|row| row["policy"] == name).unwrap_or_else(|| panic!("no {name}: {rows}")).clone()
    };
    let tokens = |row: &Value, name: &str| row[name].as_u64().unwrap();
    let second = named("answers remembered, second run");
    assert_eq!((&second["answers_changed"], tokens(&second, "runs")), (&Value::from(0), 1), "{second}");
    assert!(tokens(&second, "tokens") < tokens(&second, "tokens_before"), "{second}");
    let prefix = named("prefix reuse");
    assert!(tokens(&prefix, "tokens") < tokens(&prefix, "tokens_before"), "{prefix}");
    let managed = named("context manager, trajectory at 50 %");
    assert!(tokens(&managed, "tokens") < tokens(&managed, "tokens_before"), "{managed}");
    assert!(named("context manager, prompts at 50 %")["tokens"].is_u64());
    assert!(named("choice of models")["answers_changed"].is_null());

    let page = "An ordinary page says this and that. ".repeat(40);
    let item = serde_json::json!({
        "id": "1", "task": "Who keeps the Velmar ledger?", "target": "The Velmar ledger is kept by Anara.",
        "trajectory": [
            { "role": "user", "content": "Who keeps it?" },
            { "role": "tool", "content": page },
            { "role": "finding", "content": "The Velmar ledger is kept by Anara." },
        ],
    });
    let data = folder.path().join("logs.jsonl");
    std::fs::write(&data, format!("{item}\n")).unwrap();
    let data = data.to_str().unwrap();
    let rows = json_of(["bench", "policies", "--data", data, "--share", "0.5", "--handoff", "recent:0.5"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["way"] == "context manager at 50 %").unwrap();
    assert!(tokens(row, "tokens") <= tokens(row, "tokens_before") / 2, "{rows}");
    assert_eq!(row["pinned"], serde_json::json!([0, 0]), "{rows}");
}

/// Trainings that are in the folder are not made again, and another plan is refused.
#[test]
fn texts_are_crammed_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("vectors");
    let arguments = |steps| {
        let dir = dir.to_str().unwrap();
        let fixed = [
            "bench",
            "vectors",
            "--limit",
            "2",
            "--vectors",
            "1,2",
            "--tokens",
            "4",
            "--shuffled",
            "--out",
            dir,
        ];
        fixed.into_iter().chain(["--steps", steps])
    };
    let told = json_of(arguments("20"));
    let rows = told.as_array().unwrap();
    assert_eq!(rows.len(), 8, "{told}");
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap_or_else(|| panic!("no {field}: {row}"));
        assert!(number("behind") < number("surprise") && number("bytes") > number("text_bytes"), "{row}");
        assert!(row["exact"].as_bool().unwrap() == (row["right"] == row["tokens"]), "{row}");
        assert!((number("steps") - 20.0).abs() < 0.5 || row["exact"] == true, "{row}");
    }
    assert_eq!(json_of(arguments("20")), told, "rows of the folder, times included");
    let ended = ran(arguments("21"));
    assert!(ended.code == 1 && ended.err.contains("`steps`"), "{}", ended.err);
    let ended = ran(["bench", "vectors", "--vectors", "0"]);
    assert!(ended.code == 1 && ended.err.contains("vectors"), "{}", ended.err);
}

#[test]
fn briefings_are_trained_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("trained");
    let fixed =
        ["bench", "trained", "--limit", "1", "--steps", "0,3", "--lessons", "2", "--lesson-tokens", "4"];
    let arguments = fixed.into_iter().chain(["--out", dir.to_str().unwrap()]);
    let told = json_of(arguments.clone());
    let stages = told[0]["briefings"][0].as_array().unwrap();
    assert_eq!((stages.len(), told[0]["others"].as_u64()), (2, Some(2)), "{told}");
    assert!(stages[1]["lessons"].as_f64() < stages[0]["lessons"].as_f64(), "{told}");
    assert_eq!(json_of(arguments), told);
    let ended = ran(["bench", "trained", "--handoff", "full-kv"]);
    assert!(ended.code == 1 && ended.err.contains("latent-briefing"), "{}", ended.err);
}
