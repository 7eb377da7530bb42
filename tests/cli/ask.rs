//! `ask` and `explain`: questions about notes and logs, over a briefing.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use super::{TASK, json_of, notes, ran};
use crate::support::latent_briefing;

#[test]
fn a_pipe_gets_the_answer_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ended = ran(["ask".as_ref(), TASK.as_ref(), notes(folder.path()).as_os_str()]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "Anara\n"), "{}", ended.err);
    assert!(ended.err.contains("positions"), "{}", ended.err);
}

#[test]
fn notes_come_from_standard_input_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = latent_briefing()
        .args(["ask", TASK, "--handoff", "full-kv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(notes(folder.path())).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Anara\n");
}

#[test]
fn the_answer_as_json_with_what_it_cost() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, page) = (notes(folder.path()), folder.path().join("map.html"));
    let (notes, shown) = (notes.to_str().unwrap(), page.to_str().unwrap());
    let told =
        json_of(["ask", TASK, notes, "--beside", "--handoff", "latent-briefing:keep=0.5", "--html", shown]);
    assert_eq!(told["answer"], "Anara");
    assert_eq!(told["handoff"], "latent-briefing:keep=0.5");
    assert_eq!(
        (&told["task"], &told["worker"], &told["stopped"]),
        (&json!(TASK), &json!("embedded"), &json!("end"))
    );
    let (kept, all) = (told["kept_len"].as_u64().unwrap(), told["seq_len"].as_u64().unwrap());
    assert!(kept > 0 && kept < all && told["keep_ratio"].as_f64().unwrap() <= 0.5, "{told}");
    assert_eq!((&told["beside"]["answer"], &told["beside"]["handoff"]), (&json!("Anara"), &json!("full-kv")));
    assert!(told["beside"]["worker_tokens"].as_u64() > told["worker_tokens"].as_u64(), "{told}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Velmar") && page.contains("</html>"));
}

#[test]
fn a_recorded_log_is_a_trajectory() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("chat.json");
    let messages = json!([
        { "role": "user", "content": "Find out who keeps what." },
        { "role": "assistant", "content": "The Velmar ledger is kept by Anara." },
    ]);
    std::fs::write(&log, messages.to_string()).unwrap();
    let told = json_of(["ask", TASK, log.to_str().unwrap(), "--handoff", "text-replay"]);
    assert_eq!(told["handoff"], "text-replay");
    assert!(told["seq_len"].as_u64().unwrap() > 20, "{told}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (broken, empty) = (folder.path().join("broken.json"), folder.path().join("empty.txt"));
    std::fs::write(&broken, "{").unwrap();
    std::fs::write(&empty, " \n\n").unwrap();
    let missing = folder.path().join("missing.txt");
    for (file, word) in [(&missing, "missing.txt"), (&broken, "broken.json"), (&empty, "nothing to read")] {
        let ended = ran(["ask".as_ref(), TASK.as_ref(), file.as_os_str(), "--json".as_ref()]);
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.starts_with("ask: ") && ended.err.contains(word), "{}", ended.err);
        let told = ended.json();
        assert_eq!(told["exit"], 1);
        assert!(told["error"].as_str().unwrap().contains(word), "{told}");
    }
    let ended = ran(["ask", TASK, "--worker", "/no/such/model", missing.to_str().unwrap()]);
    assert!(ended.code == 1 && ended.err.contains("/no/such/model"), "{}", ended.err);
    let page =
        ran(["ask", TASK, notes(folder.path()).to_str().unwrap(), "--handoff", "none", "--html", "x.html"]);
    assert!(page.code == 1 && page.err.contains("--html"), "{}", page.err);
}

#[test]
fn a_briefing_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, page) = (notes(folder.path()), folder.path().join("page.html"));
    let (notes, page) = (notes.to_str().unwrap(), page.to_str().unwrap());
    let told = json_of(["explain", "--task", TASK, notes, "-o", page]);
    let positions = told["positions"].as_array().unwrap();
    let text: String = positions.iter().map(|position| position["piece"].as_str().unwrap()).collect();
    assert!(text.contains("The Velmar ledger is kept by Anara."), "{text}");
    assert!(positions.iter().any(|position| position["kept"] == true));
    assert_eq!(told["seq_len"].as_u64().unwrap() as usize, positions.len());
    assert!(std::fs::read_to_string(page).unwrap().contains("</html>"));
    // The text as it is, beside the path of the page.
    let ended = ran(["explain", "--task", TASK, notes, "-o", page, "--text"]);
    assert!(ended.out.contains("Torwick") && ended.out.contains(page), "{}", ended.out);

    let before = std::fs::read(notes).unwrap();
    let ended = ran(["explain", "--task", TASK, notes, "-o", notes]);
    assert!(ended.code == 2 && ended.err.contains("would replace"), "{}", ended.err);
    assert_eq!(std::fs::read(notes).unwrap(), before);
    let ended = ran(["explain", "--task", TASK, notes, "--handoff", "full-kv"]);
    assert_eq!(ended.code, 2, "{}", ended.err);
}
