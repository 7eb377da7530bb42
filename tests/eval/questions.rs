//! Files of questions, one run of the loop for each: reading, scores, rows, replays.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use latent_briefing::eval::metrics::{ShortScore, same_in_another_form, short_answer};
use latent_briefing::eval::pipeline::read_rows;
use latent_briefing::eval::runs::OpenRepl;
use latent_briefing::eval::runs::questions::{
    self, Outcome, QuestionItem, QuestionRow, Questions, read_questions, summary,
};
use latent_briefing::eval::runs::replay::{replay_rows, replay_table};
use latent_briefing::orchestrate::{Rlm, RlmConfig, Script};
use latent_briefing::sandbox::{MontyConfig, MontyRepl};
use latent_briefing::session::{BoundaryPolicy, Source};

use crate::support::embedded;

fn open() -> OpenRepl {
    Arc::new(|| {
        let worker = Some(crate::support::sandbox_program());
        Ok(Box::new(MontyRepl::start(&MontyConfig { worker, ..MontyConfig::default() })?))
    })
}

#[test]
fn lines_become_questions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("questions.jsonl");
    let lines = [
        r#"{"id": "a", "trajectory": [{"role": "tool", "content": " One. "}, {"role": "tool", "content": null}, {"role": "user", "content": [{"type": "text", "text": "Two."}]}], "task": "Who? ", "target": "Anara", "answers": ["Ana"]}"#,
        "",
        r#"{"task": "Where?", "target": "Redmoor", "answers": ["Redmoor"]}"#,
        r#"{"task": "no comma" "target": "x"}"#,
    ];
    fs::write(&path, lines.join("\r\n")).unwrap();
    let item = |id: &str, document: &str, question: &str, answers: &[&str]| QuestionItem {
        id: id.into(),
        document: document.into(),
        question: question.into(),
        answers: answers.iter().map(ToString::to_string).collect(),
    };
    let wanted =
        [item("a", "One.\n\nTwo.", "Who?", &["Ana", "Anara"]), item("line-3", "", "Where?", &["Redmoor"])];
    assert_eq!(read_questions(&path, Some(2)).unwrap(), wanted);
    let error = read_questions(&path, None).unwrap_err().to_string();
    assert!(error.contains("questions.jsonl, line 4"), "{error}");
    fs::write(&path, b"{\"task\": \"M\xFCller?\"}").unwrap();
    let error = read_questions(&path, None).unwrap_err().to_string();
    assert!(error.contains("WINDOWS-1252"), "{error}");
}

/// Reply, right answers, exact, F1, contained. Values of the published script, containment but for.
const SCORES: [(&str, &[&str], bool, f64, bool); 9] = [
    ("The Ohio River.", &["Ohio River"], true, 1.0, true),
    ("It was held on the Ohio River", &["Ohio River"], false, 0.5, true),
    ("Yes", &["yes"], true, 1.0, true),
    ("yes, they are", &["yes"], false, 0.0, true),
    ("Fulgencio Batista", &["Fulgencio Batista y Zaldívar"], false, 2.0 / 3.0, false),
    ("Batista", &["Fidel Castro", "Batista"], true, 1.0, true),
    ("north", &["south"], false, 0.0, false),
    ("", &["south"], false, 0.0, false),
    ("Knowsley", &[], false, 0.0, false),
];

#[test]
fn short_answers_are_scored_as_published() {
    for (reply, answers, exact, f1, contained) in SCORES {
        let score = short_answer(reply, answers);
        assert!((score.f1 - f1).abs() < 1e-9, "{reply}: {score:?}");
        assert_eq!((score.exact, score.contained), (exact, contained), "{reply}: {score:?}");
    }
}

#[test]
fn an_answer_in_another_form_is_told_from_another_answer() {
    let same = [
        ("Fulgencio Batista", "Fulgencio Batista y Zaldívar"),
        ("Daniel Patrick Moynihan", "Daniel Patrick \"Pat\" Moynihan"),
        ("Sheridan County, Montana", "Sheridan County"),
        ("45", "45th"),
        ("The 45th", "45"),
        ("4", "four"),
        ("Two", "2"),
        ("early 1970s", "the early 1970s."),
    ];
    for (reply, answer) in same {
        assert!(same_in_another_form(reply, answer), "{reply} for {answer}");
    }
    let other = [
        ("north", "south"),
        ("1", "four"),
        ("th", "4th"),
        ("Patrick", "Daniel Patrick \"Pat\" Moynihan"),
        ("Pat Daniel", "Daniel Patrick \"Pat\" Moynihan"),
        ("Fidel Castro", "Fulgencio Castro"),
        ("", "four"),
        ("four", ""),
    ];
    for (reply, answer) in other {
        assert!(!same_in_another_form(reply, answer), "{reply} for {answer}");
    }
}

const NOTES: &str = "The Velmar ledger is kept by Anara.\n\nAnara works in Redmoor.";

/// Runs `turns` at a question, with a log in the folder.
fn run(dir: &Path, id: &str, answers: &[&str], turns: &[&str]) -> QuestionRow {
    let item = QuestionItem {
        id: id.to_owned(),
        document: NOTES.to_owned(),
        question: "Who keeps the Velmar ledger?".to_owned(),
        answers: answers.iter().map(ToString::to_string).collect(),
    };
    let mut config = RlmConfig { log_dir: Some(dir.join("logs")), ..RlmConfig::small() };
    config.session = RlmConfig::default().session;
    config.session.policy = BoundaryPolicy::nothing().admitting([Source::Finding, Source::Artifact]);
    config.limits.iterations = turns.len();
    let open = open();
    let mut rlm = Rlm::new(embedded(), move || open(), config).unwrap();
    rlm.add_context(&item.document).unwrap();
    let ended = rlm.run(&mut Script::new(turns.iter().copied()), &item.question);
    QuestionRow::of(&item, &ended).unwrap()
}

const ASK: &str = "```repl\nreply = llm_query(\"Who keeps the Velmar ledger?\", brief=False, document=context)\nprint(reply)\n```";

#[test]
fn rows_say_how_a_run_ended_and_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let end = |text: &str| format!("```repl\nFINAL({text})\n```");
    let cases: [(&str, &[&str], Vec<String>, Outcome); 6] = [
        ("right", &["anara"], vec![ASK.into(), end("reply")], Outcome::Right),
        ("form", &["Anara"], vec![ASK.into(), end("'It is Anara'")], Outcome::OtherForm),
        ("unused", &["Anara"], vec![ASK.into(), end("'Tolio'")], Outcome::ReplyNotUsed),
        ("not found", &["Miralo"], vec![ASK.into(), end("reply")], Outcome::NotFound),
        ("guess", &["Anara"], vec![end("'Tolio'"), end("'Tolio'")], Outcome::NeverAsked),
        ("stopped", &["Anara"], vec![ASK.into()], Outcome::Stopped),
    ];
    let mut rows = Vec::new();
    for (id, answers, turns, outcome) in cases {
        let turns: Vec<&str> = turns.iter().map(String::as_str).collect();
        let row = run(dir.path(), id, answers, &turns);
        assert_eq!(row.outcome, outcome, "{row:?}");
        assert_eq!(row.calls, usize::from(id != "guess"));
        rows.push(row);
    }
    let path = dir.path().join("rows.jsonl");
    let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
    // A process was ended while it wrote the last one.
    fs::write(&path, lines.concat().trim_end_matches(['}', '\n'])).unwrap();
    let read = read_rows::<QuestionRow>(dir.path()).unwrap().rows;
    // Seconds may lose their last digit.
    let plain = |row: &QuestionRow| QuestionRow { seconds: 0.0, ..row.clone() };
    assert!(read.iter().map(plain).eq(rows[..5].iter().map(plain)), "{read:?}");
    let text = summary(&rows);
    for part in [
        "1 of 6 right by exact match, 2 contain",
        "a worker was asked in 5 of 6 runs",
        "1 no worker had it: not found",
        "1 a worker had it, the answer is another: unused",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

/// A folder is gone on with: rows before a cut stay as they are, an id that is there twice is asked once.
#[test]
fn questions_are_answered_once_each_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let item = |id: &str| QuestionItem {
        id: id.to_owned(),
        document: NOTES.to_owned(),
        question: "Who keeps the Velmar ledger?".to_owned(),
        answers: vec!["Anara".to_owned()],
    };
    let items = ["a", "b", "a", "c"].map(item);
    let config = RlmConfig { ask_first: false, ..RlmConfig::small() };
    let asked = Questions { worker: embedded().clone(), open: open(), config };
    let run = |turns: &[&str]| {
        let turns = turns.iter().map(|answer| format!("```repl\nFINAL({answer:?})\n```"));
        let mut script = Script::new(turns.collect::<Vec<_>>());
        questions::run(&asked, &mut script, &items, dir.path(), &|_| {}).unwrap()
    };
    let first = run(&["Anara", "Tolio", "Anara"]);
    let outcomes: Vec<_> = first.rows.iter().map(|row| (row.id.as_str(), row.outcome)).collect();
    let wanted = [("a", Outcome::Right), ("b", Outcome::NeverAsked), ("c", Outcome::Right)];
    assert_eq!((outcomes, first.resumed), (wanted.to_vec(), 0));
    for row in &first.rows {
        assert!(dir.path().join("logs").join(row.log.as_ref().unwrap()).is_file());
    }
    assert!(!dir.path().join("plan.json").exists());

    let path = dir.path().join("rows.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let before = text.split_inclusive('\n').take(2).collect::<String>();
    fs::write(&path, &text[..text.len() - 20]).unwrap();
    let second = run(&["Tolio"]);
    assert_eq!((second.resumed, second.rows.len()), (2, 3));
    assert_eq!(second.rows[2].outcome, Outcome::NeverAsked, "asked anew");
    assert!(fs::read_to_string(&path).unwrap().starts_with(&before));
    assert_eq!(run(&[]).resumed, 3);
}

#[test]
fn runs_of_a_folder_are_replayed_under_another_handoff() {
    let dir = tempfile::tempdir().unwrap();
    let ask = "```repl\nreply = llm_query(\"Who keeps the Velmar ledger?\")\nprint(reply)\n```";
    let rows = [run(dir.path(), "one", &["Anara"], &[ask, "```repl\nFINAL(reply)\n```"])];
    let handoffs = ["none", "full-kv", "latent-briefing:keep=0.5"].map(str::to_owned);
    let mut heard = 0;
    let all = replay_rows(embedded(), &open(), dir.path(), &rows, &handoffs, &mut |_| heard += 1).unwrap();
    assert_eq!((all.len(), heard), (3, 3));
    assert!(all.iter().all(|row| row.calls == 1 && row.stopped.is_none()), "{all:?}");
    assert_eq!(all.iter().map(|row| row.handoff.clone()).collect::<Vec<_>>(), handoffs);
    // The same turns, and another context for the worker.
    assert_eq!(all[0].keep_ratio, Some(0.0));
    assert_eq!(all[1].keep_ratio, Some(1.0));
    assert!(all[2].keep_ratio.is_some_and(|kept| (0.4..0.7).contains(&kept)), "{:?}", all[2].keep_ratio);
    assert_ne!(all[0].replies, ShortScore { exact: true, ..all[0].replies });
    let table = replay_table(&all);
    assert!(table.contains("latent-briefing:keep=0.5") && table.contains("100.0 %"), "{table}");
}
