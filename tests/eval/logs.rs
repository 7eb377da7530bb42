//! Files and folders of recorded logs: layouts, ids, faults, notes.

use std::path::{Path, PathBuf};

use latent_briefing::eval::Error;
use latent_briefing::eval::datasets::{Fault, FileFault, OnFault};
use latent_briefing::eval::logs::{Continuation, LoadOptions, LoadedLogs, LogItem, load};
use latent_briefing::session::{LogFormat, LogNote, Segment};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::assert_error;

fn written(dir: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn all(path: &Path) -> LoadedLogs {
    load(path, &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}: {}", path.display()))
}

fn ids(loaded: &LoadedLogs) -> Vec<&str> {
    loaded.items.iter().map(|item| item.id.as_str()).collect()
}

fn plain(id: &str) -> Value {
    json!({"id": id, "trajectory": [{"role": "human", "content": "Who?"}, {"role": "WebSurfer", "content": "Ana."}],
           "task": "Say who.", "target": "Ana"})
}

fn lines(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn a_plain_step_becomes_an_item() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = all(&written(&dir, "steps.jsonl", lines(&[plain("41#13")])));
    let expected = LogItem {
        id: "41#13".to_owned(),
        document: "41".to_owned(),
        trajectory: vec![Segment::request("Who?"), Segment::tool("Ana.").named("WebSurfer")],
        task: "Say who.".to_owned(),
        target: "Ana".to_owned(),
        answers: Vec::new(),
        decisions: Vec::new(),
    };
    assert_eq!((loaded.items.as_slice(), loaded.faults.len(), loaded.notes.len()), (&[expected][..], 0, 0));
    assert_eq!(loaded.formats, [(LogFormat::Plain, 1)].into());
    // What was read is read again from what it is written as.
    let again = all(&written(&dir, "again.json", serde_json::to_string(&loaded.items[0]).unwrap()));
    assert_eq!(again.items, loaded.items);
}

#[test]
fn a_file_is_one_log_or_several_as_its_values_say() {
    let dir = tempfile::tempdir().unwrap();
    let message = |text: &str| json!({"role": "user", "content": text});
    let chat = json!([message("a"), message("b")]);
    let record = json!({"messages": chat});
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    for (text, expected) in [
        (lines(&[message("a"), message("b")]), vec!["log"]),
        (chat.to_string(), vec!["log"]),
        (pretty(&chat), vec!["log"]),
        (pretty(&record), vec!["log"]),
        (format!("{}\n\n{}", pretty(&record), pretty(&record)), vec!["log", "log-2"]),
        (record.to_string(), vec!["log"]),
        (lines(&[record.clone(), record.clone()]), vec!["log-1", "log-2"]),
        (lines(&[chat.clone(), chat.clone()]), vec!["log-1", "log-2"]),
        (pretty(&json!([record, record])), vec!["log-1", "log-2"]),
        (json!([plain("x"), record]).to_string(), vec!["x", "log-2"]),
        (format!("\u{FEFF}\n\n{}", lines(&[plain("x"), plain("y")])), vec!["x", "y"]),
    ] {
        let loaded = all(&written(&dir, "log.json", &text));
        assert_eq!((ids(&loaded), &loaded.faults), (expected, &Vec::new()), "{text}");
    }
    // Several runs of one task are one document.
    let trial = json!({"task_id": 0, "trial": 1, "traj": chat});
    let trials = json!([trial, trial, {"task_id": 1, "traj": chat}]).to_string();
    let trials = all(&written(&dir, "trials.json", trials));
    let documents: Vec<&str> = trials.items.iter().map(|item| item.document.as_str()).collect();
    assert_eq!((ids(&trials), documents), (vec!["0", "0#2", "1"], vec!["0", "0", "1"]));
    let limited = LoadOptions { limit: Some(1), ..LoadOptions::default() };
    let path = written(&dir, "two.jsonl", lines(&[plain("x"), plain("y")]));
    assert_eq!(ids(&load(&path, &limited).unwrap()), ["x"]);
}

#[test]
fn malformed_logs_are_named_by_id_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = lines(&[plain("first"), json!({"id": "bare", "task": "t"})]).into_bytes();
    bytes.extend(b"{\"id\": \"torn\", \"trajectory\": [\n");
    bytes.extend(b"{\"id\": \"latin\", \"trajectory\": \"\xE9\"}\n");
    bytes.extend(
        lines(&[
            json!({"id": "blank", "trajectory": [{"role": "tool", "content": " \n"}]}),
            json!({"id": "flat", "trajectory": "x"}),
            json!(3),
            plain("first"),
            plain("last"),
        ])
        .into_bytes(),
    );
    let path = written(&dir, "steps.jsonl", &bytes);
    let loaded = all(&path);
    assert_eq!(ids(&loaded), ["first", "last"]);
    let said: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
    let expected = [
        "line 2, item `bare`: no log that is known: an object with the fields [id, task]",
        "line 3, item `torn`: malformed JSON",
        "line 4, item `latin`: invalid UTF-8 at byte 31",
        "line 5, item `blank`: field `trajectory` is empty",
        "line 6, item `flat`: field `trajectory` is a string, expected an array",
        "line 7: no log that is known: a number",
        "line 8, item `first`: an earlier item, on line 1, has the same id",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
    let strict = LoadOptions { on_fault: OnFault::Fail, ..LoadOptions::default() };
    assert_error!(load(&path, &strict).unwrap_err(), Error::Item { .. }, "steps.jsonl");
    let small = LoadOptions { max_item_bytes: 40, ..LoadOptions::default() };
    let large = load(&path, &small).unwrap();
    assert_eq!((large.items.len(), &large.faults[0].fault), (0, &Fault::TooLarge { limit: 40 }));
}

#[test]
fn files_that_are_no_logs_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes, message) in [
        (&b""[..], "empty"),
        (b" \n\n", "empty"),
        (b"- role: user\n", "neither JSON nor JSON Lines: it starts with \"- role: user\""),
        (b"\x1F\x8B\x08", "gzip"),
        (b"PAR1", "neither JSON nor JSON Lines"),
        (b"{\n}]", "line 2: expected a value"),
        (b"\xFF\xFE\x00\xD8\x00\xD8", "UTF-16"),
    ] {
        let path = written(&dir, "log.json", bytes);
        let error = load(&path, &LoadOptions::default()).unwrap_err();
        let Error::Dataset { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains(message), "{source}");
    }
    let missing = load(&dir.path().join("none.json"), &LoadOptions::default()).unwrap_err();
    assert_error!(missing, Error::Io { .. }, "none.json");
}

#[test]
fn a_folder_is_read_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let chat = json!({"messages": [{"role": "user", "content": "a"}, {"role": "Oracle", "content": "b"}]});
    written(&dir, "b/2.json", chat.to_string());
    written(
        &dir,
        "a/1.traj",
        json!({"trajectory": [{"thought": "t", "action": "ls", "observation": ""}]}).to_string(),
    );
    written(&dir, "steps.jsonl", lines(&[plain("x"), json!({"id": "bad"})]));
    written(&dir, "twice.jsonl", lines(&[plain("x")]));
    written(&dir, "broken.json", "no");
    written(&dir, "notes.txt", "no log");
    written(&dir, ".hidden.json", "{}");
    let loaded = all(dir.path());
    assert_eq!(ids(&loaded), ["a/1", "b/2", "x", "x@twice.jsonl"]);
    let said: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with("line 1, item `broken.json`: the file cannot be read: neither JSON"),
        "{said:?}"
    );
    assert!(said[1].starts_with("line 2, item `steps.jsonl: bad`: no log that is known"), "{said:?}");
    assert_eq!(
        loaded.notes,
        [
            LogNote::LeftOut { what: "file of another kind".to_owned(), parts: 1 },
            LogNote::UnknownRole { role: "Oracle".to_owned(), messages: 1 },
        ]
    );
    let empty = tempfile::tempdir().unwrap();
    let error = load(empty.path(), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Dataset { source: FileFault::NoFiles { .. }, .. }), "{error:?}");
}

#[test]
fn the_last_message_is_the_target_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let chat = [turn("user", "Q"), turn("tool", "T"), turn("assistant", "A")];
    let path = written(&dir, "chat.jsonl", lines(&chat));
    let given = all(&path);
    assert_eq!((given.items[0].task.as_str(), given.items[0].trajectory.len()), ("", 3));
    let options = LoadOptions { continuation: Continuation::LastMessage, ..LoadOptions::default() };
    let item = &load(&path, &options).unwrap().items[0];
    assert_eq!((item.task.as_str(), item.target.as_str()), ("Q", "A"));
    assert_eq!(item.trajectory, [Segment::tool("T")]);
    // Nothing is left to hand over.
    let path = written(&dir, "short.json", json!([turn("user", "Q"), turn("assistant", "A")]).to_string());
    let short = load(&path, &options).unwrap();
    assert_eq!(short.faults[0].fault, Fault::Empty { field: "trajectory".to_owned() });
}

/// Real steps and questions, where the environment names their folder: all of them are read, and every role is known.
#[test]
fn real_logs_are_read_without_a_fault() {
    let Some(folder) = std::env::var_os("LATENT_BRIEFING_REAL_DATA") else {
        eprintln!("skipped: LATENT_BRIEFING_REAL_DATA does not name a folder");
        return;
    };
    for (file, items) in [("agent-logs/ledger-dev.jsonl", 84), ("hotpotqa/dev.jsonl", 60)] {
        let loaded = all(&Path::new(&folder).join(file));
        assert_eq!((loaded.items.len(), &loaded.faults, &loaded.notes), (items, &vec![], &vec![]), "{file}");
        assert!(loaded.items.iter().all(|item| !item.task.is_empty() && !item.target.is_empty()), "{file}");
    }
}

proptest! {
    /// No bytes and no JSON end in a panic.
    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let _ = load(&written(&dir, "log.json", bytes), &LoadOptions::default());
    }

    #[test]
    fn any_message_is_read_or_refused(value in message()) {
        let dir = tempfile::tempdir().unwrap();
        let text = json!({"messages": [value, {"role": "user", "content": "x"}]}).to_string();
        let loaded = load(&written(&dir, "log.json", text), &LoadOptions::default()).unwrap();
        prop_assert_eq!(loaded.items.len() + loaded.faults.len(), 1);
    }
}

/// Objects with the fields that formats have, filled with anything.
fn message() -> impl Strategy<Value = Value> {
    let keys = "role|content|type|name|tool_calls|function|source|thought|action|text|input|id|agent|message|payload|output";
    let keys: Vec<&str> = keys.split('|').collect();
    let words = [
        "user",
        "assistant",
        "tool_use",
        "tool_result",
        "text",
        "TextMessage",
        "Orchestrator (->",
        "```\n",
        "",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 3, move |inner| {
        let object = prop::collection::vec((prop::sample::select(keys.clone()), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(Value::from),
            object.prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    });
    value.prop_filter("messages are objects", Value::is_object)
}
