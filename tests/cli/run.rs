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

#[test]
fn policies_come_from_a_file_and_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        path("policies.toml"),
        "[context]\nprompt_tokens = 200000\n[[phase]]\nname = \"all\"\nturns = 20\n",
    )
    .unwrap();
    std::fs::write(path("prices.toml"), "[models.\"*\"]\ninput = 1.0\noutput = 2.0\n").unwrap();
    let library = "[[prompt]]\nname = \"where\"\nversion = 1\ntext = \"Where is the office of {{ who }}?\"\n";
    std::fs::write(path("prompts.toml"), library).unwrap();
    let run = |more: &[&str]| {
        let log = path("logs");
        let (policies, memo, prices) = (path("policies.toml"), path("memo"), path("prices.toml"));
        let own = ["run", "--log", &log, "--policies", &policies, "--memo", &memo, "--prices", &prices];
        json_of(own.into_iter().chain(more.iter().copied()))
    };
    let told = run(&[]);
    let (hits, stored) = (&told["memo"]["hits"], told["memo"]["stored"].as_u64().unwrap());
    assert!(
        told["answer"].as_str().unwrap().contains("Vinereach") && *hits == json!(0) && stored > 0,
        "{told}"
    );
    let phases: Vec<&str> = told["tables"]["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(phases.contains(&"phase all") && phases.contains(&"worker: answers"), "{phases:?}");
    // The same run again computes no answer, and comes to the same.
    let again = run(&["--no-tables"]);
    assert_eq!((&again["memo"]["hits"], &again["answer"]), (&json!(stored), &told["answer"]));
    assert_eq!(
        (&again["ledger"]["worker"]["tokens"]["generated"], &again["tables"]),
        (&json!(0), &json!(null))
    );
    assert_eq!(run(&["--memo-tenant", "another"])["memo"]["hits"], 0);
    // The question from a library, with its version in the log.
    let made = run(&[
        "--prompts",
        &path("prompts.toml"),
        "--prompt",
        "where@1",
        "--set",
        "who=the keeper of the Gorbek ledger",
    ]);
    assert_eq!(made["question"], "Where is the office of the keeper of the Gorbek ledger?");
    let log = std::fs::read_to_string(made["log"].as_str().unwrap()).unwrap();
    assert!(
        log.lines().next().unwrap().contains("\"prompt_used\":{\"name\":\"where\",\"version\":1"),
        "{log}"
    );
    let wrong = |text: &str| {
        std::fs::write(path("policies.toml"), text).unwrap();
        let ended = ran(["run", "--policies", &path("policies.toml"), "--log", &path("logs")]);
        assert_eq!(ended.code, 1, "{}", ended.err);
        ended.err
    };
    assert!(wrong("[memoo]\n").contains("memoo"));
    assert!(wrong("[context]\nlow_water = 2.0\n").contains("context.low_water"));
    let ended = ran(["run", "--orchestrator", "chain", "--log", &path("logs")]);
    assert!(ended.code == 2 && ended.err.contains("[models]"), "{}", ended.err);
}
