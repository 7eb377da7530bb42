//! `run`: the loop, and `explain` of what it left.

use serde_json::json;

use super::{json_of, ran};

#[test]
fn a_run_answers_and_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let told = json_of(["run", "--log", logs.to_str().unwrap()]);
    assert!(told["answer"].as_str().unwrap().contains("Vinereach"), "{told}");
    assert_eq!(told["stopped"], json!(null));
    assert!(told["ledger"]["worker"]["calls"].as_u64().unwrap() > 0, "{told}");
    let log = told["log"].as_str().unwrap();

    let page = json_of(["explain", log]);
    assert!(page["turns"].as_u64().unwrap() > 1 && page["answer"] == told["answer"], "{page}");
    let path = page["page"].as_str().unwrap();
    assert!(std::fs::read_to_string(path).unwrap().contains("</html>"), "{path}");
    let ended = ran(["explain", log, "-o", log]);
    assert!(ended.code == 2 && ended.err.contains("would replace"), "{}", ended.err);

    // Taken up again, it has its answer; replayed under another handoff, it has one as well.
    assert_eq!(json_of(["run", "--resume", log])["answer"], told["answer"]);
    let replay = format!("replay:{log}");
    let again =
        json_of(["run", "--orchestrator", &replay, "--handoff", "full-kv", "--log", logs.to_str().unwrap()]);
    assert!(again["answer"].as_str().unwrap().contains("Vinereach"), "{again}");
    // For a person the answer comes first.
    let ended = ran(["run", "--log", logs.to_str().unwrap()]);
    let lines: Vec<&str> = ended.out.lines().take(2).collect();
    assert_eq!(
        lines,
        ["Where is the office of the keeper of the Gorbek ledger?", told["answer"].as_str().unwrap()]
    );
}

#[test]
fn a_run_that_ends_without_an_answer_says_what_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let ended = ran(["run", "--max-time", "0.000001", "--log", log.to_str().unwrap(), "--json"]);
    assert_eq!(ended.code, 1, "{}{}", ended.out, ended.err);
    let told = ended.json();
    assert!(told["stopped"].as_str().is_some_and(|why| !why.is_empty()), "{told}");
    assert!(told["ledger"].is_object() && ended.err.starts_with("run: "), "{told}");
    let estimate = json_of(["run", "--estimate"]);
    assert!(estimate["likely"]["turns"].as_u64().unwrap() >= 1, "{estimate}");
}

#[test]
fn a_file_of_questions_has_a_row_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("questions.jsonl"), folder.path().join("out"));
    let item = json!({
        "id": "1",
        "trajectory": [{ "role": "assistant", "content": "The Velmar ledger is kept by Anara." }],
        "task": "Who keeps the Velmar ledger?",
        "target": "Anara",
    });
    std::fs::write(&data, format!("{item}\n")).unwrap();
    let arguments = ["run", "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let rows = json_of(arguments);
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["id"]), (1, &json!("1")), "{rows}");
    // It goes on where it was: nothing is asked again.
    assert_eq!(json_of(arguments), rows);
}
