//! Episodes of several agents: read in every form, counted, measured.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use latent_briefing::eval::Error;
use latent_briefing::eval::coordination::{
    self, Given, Loaded, TokenPrice, debate, fidelity, items, load, sparse, traffic,
};
use latent_briefing::eval::logs;
use latent_briefing::eval::retained::{self, RetainedPlan, summarise};
use latent_briefing::eval::stats::bootstrap::Bootstrap;
use latent_briefing::session::CancelToken;

use crate::support::embedded;

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn read(text: &str) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    load(&written(dir.path(), "episodes.jsonl", text)).unwrap()
}

/// What is refused is told with all of `parts`.
fn says<T>(refused: Result<T, Error>, parts: &[&str]) {
    let Err(error) = refused else { panic!("{parts:?}: nothing was refused") };
    let said = error.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{said}: {parts:?}");
}

#[allow(clippy::unnecessary_wraps)]
fn words(text: &str) -> latent_briefing::eval::Result<Vec<u32>> {
    Ok(text.split_whitespace().map(|word| word.len() as u32).collect())
}

const EPISODE: &str = r#"{"id": 7, "task": "Where?", "outcome": {"score": true, "answer": "Oslo"}, "cost": 3, "turns": [
{"agent": "searcher", "phase": "search", "context": "Plan: look.", "instruction": "Find it.", "response": "It says Oslo.", "tokens": {"input": 9, "output": 4}},
{"agent": "judge", "context": [{"source": "finding", "text": "It says Oslo.", "name": "searcher"}], "response": "next: stop", "mood": "good",
 "decisions": [{"name": "next", "opening": "next: ", "options": ["stop", "go on"], "chosen": "stop"}]},
{"agent": "judge", "context": [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}], "response": "Oslo"}]}"#;

#[test]
fn an_episode_a_line_says_who_was_given_what() {
    let loaded = read(&EPISODE.replace('\n', " "));
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    assert_eq!(loaded.ignored, BTreeSet::from(["cost".to_owned(), "turns[].mood".to_owned()]));
    let [episode] = &loaded.episodes[..] else { panic!("{:?}", loaded.episodes) };
    assert_eq!((episode.id.as_str(), episode.task.as_str(), episode.turns.len()), ("7", "Where?", 3));
    assert_eq!(episode.outcome.as_ref().unwrap().score, Some(1.0));
    assert_eq!(episode.turns[0].tokens.input, Some(9));
    let context = episode.context(&episode.turns[1]);
    assert_eq!((context[0].text.as_str(), context[0].name.as_deref()), ("It says Oslo.", Some("searcher")));
    assert_eq!(episode.context(&episode.turns[2]).len(), 2);

    let made = items(&loaded.episodes, &BTreeSet::new());
    let tasks: Vec<(&str, &str)> = made.iter().map(|item| (item.id.as_str(), item.task.as_str())).collect();
    let expected = [
        ("7#0", "Find it."),
        ("7#1", "Where?\nWrite the next message of judge."),
        ("7#2", "Where?\nWrite the next message of judge."),
    ];
    assert_eq!(tasks, expected);
    assert_eq!(made[1].decisions[0].chosen_number(), Some(0));
    assert_eq!(items(&loaded.episodes, &BTreeSet::from(["searcher".to_owned()])).len(), 1);
}

#[test]
fn a_turn_a_line_is_gathered_and_without_contexts_all_was_heard() {
    let rows = [
        r#"{"episode": "a", "turn": 2, "agent": "y", "response": "Second.", "output_tokens": 2}"#,
        r#"{"episode": "b", "agent": "x", "context": "Given.", "response": "Alone.", "score": 0.5}"#,
        r#"{"episode": "a", "turn": 1, "agent": "x", "response": "First.", "task": "What?"}"#,
        r#"{"episode": "a", "turn": 3, "agent": "x", "response": "Third."}"#,
    ];
    let loaded = read(&rows.join("\n"));
    let [a, b] = &loaded.episodes[..] else { panic!("{loaded:?}") };
    let said: Vec<&str> = a.turns.iter().map(|turn| turn.response.as_str()).collect();
    assert_eq!((a.task.as_str(), &said[..]), ("What?", &["First.", "Second.", "Third."][..]));
    let given: Vec<usize> = a.turns.iter().map(|turn| a.context(turn).len()).collect();
    assert_eq!(given, [0, 1, 2]);
    assert_eq!(b.outcome.as_ref().unwrap().score, Some(0.5));
    // Nobody is given anything before the first message: that is no continuation.
    assert_eq!(items(&loaded.episodes, &BTreeSet::new()).len(), 3);
}

#[test]
fn what_is_wrong_is_said_by_field_and_line_and_the_rest_stays() {
    let rows = [
        EPISODE.replace('\n', " "),
        r#"{"id": "no turns", "turns": []}"#.to_owned(),
        r#"{"id": "x", "turns": [{"agent": "a", "response": 5}]}"#.to_owned(),
        r#"{"id": "y", "turns": [{"agent": " ", "response": "r"}]}"#.to_owned(),
        r#"{"id": "z", "turns": [{"agent": "a", "response": "r", "tokens": {"input": -1}}]}"#.to_owned(),
        r#"{"id": "s", "score": 7, "turns": [{"agent": "a", "response": "r"}]}"#.to_owned(),
        r#"{"id": "d", "turns": [{"agent": "a", "response": "r", "decisions": [{"name": "n", "opening": "", "options": ["p"], "chosen": "q"}]}]}"#.to_owned(),
        "{\"id\": \"cut".to_owned(),
        EPISODE.replace('\n', " "),
        r#"{"id": "no episode", "other": 1}"#.to_owned(),
    ];
    let loaded = read(&rows.join("\n"));
    assert_eq!(loaded.episodes.len(), 1);
    let said: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
    let wanted = [
        "`turns` is empty",
        "`turns[0].response` is a number",
        "`turns[0].agent` is empty",
        "`turns[0].tokens.input`",
        "`score`",
        "`turns[0].decisions`",
        "",
        "same id",
        "`turns` is missing",
    ];
    assert_eq!(said.len(), wanted.len(), "{said:#?}");
    for ((said, wanted), line) in said.iter().zip(wanted).zip([2, 3, 4, 5, 6, 7, 8, 9, 10]) {
        assert!(said.contains(wanted) && said.contains(&format!("line {line}")), "{said}: {wanted}");
    }
    let dir = tempfile::tempdir().unwrap();
    says(load(&written(dir.path(), "other.jsonl", "{\"other\": 1}")), &["other.jsonl"]);
    says(load(&dir.path().join("nowhere.jsonl")), &["nowhere.jsonl"]);
}

/// Steps of one log, as Magentic-One's orchestrator writes them, and a chat of a team.
#[test]
fn recorded_logs_are_episodes() {
    let ledger = r#"Updated Ledger: {\"is_in_loop\": {\"reason\": \"r\", \"answer\": true}, \"next_speaker\": {\"answer\": \"WebSurfer\"}}"#;
    let step = |id: &str, more: &str| {
        format!(
            r#"{{"id": "{id}", "trajectory": [{{"role": "human", "content": "Find it."}}, {{"role": "Orchestrator (-> FileSurfer)", "content": "Open it."}}, {{"role": "WebSurfer", "content": "A page."}}{more}], "task": "Write the ledger.", "target": "{ledger}"}}"#
        )
    };
    let later = step("4#9", r#", {"role": "WebSurfer", "content": "Another page."}"#);
    let loaded = read(&format!("{later}\n{}\n{}", step("4#5", ""), step("5#1", "")));
    let ids: Vec<(&str, usize)> =
        loaded.episodes.iter().map(|episode| (episode.id.as_str(), episode.turns.len())).collect();
    assert_eq!(ids, [("4", 2), ("5", 1)]);
    let given: Vec<usize> =
        loaded.episodes[0].turns.iter().map(|turn| loaded.episodes[0].context(turn).len()).collect();
    assert_eq!(given, [3, 4]);
    let names: Vec<(&str, &str)> = loaded.episodes[0].turns[0]
        .decisions
        .iter()
        .map(|decision| (decision.name.as_str(), decision.chosen.as_str()))
        .collect();
    assert_eq!(names, [("is_in_loop", "true"), ("next_speaker", "WebSurfer")]);

    let chat = r#"{"id": "c", "messages": [{"role": "user", "content": "Find it."}, {"role": "assistant", "content": "It is Oslo."}]}"#;
    let loaded = read(chat);
    let agents: Vec<&str> = loaded.episodes[0].turns.iter().map(|turn| turn.agent.as_str()).collect();
    assert_eq!(agents, ["orchestrator"]);
    assert_eq!(loaded.episodes[0].turns[0].context, Given::Shared(1));
}

#[test]
fn a_transcript_that_is_given_again_is_counted_as_sent_before() {
    let long = (1..=40).map(|n| "x".repeat(n)).collect::<Vec<_>>().join(" ");
    let rows = [
        format!(r#"{{"episode": "a", "agent": "x", "context": "{long}", "response": "One."}}"#),
        format!(r#"{{"episode": "a", "agent": "x", "context": "{long}", "response": "Two."}}"#),
    ];
    let counted = traffic(&read(&rows.join("\n")).episodes, &words).unwrap();
    assert_eq!((counted.total.sent, counted.total.again, counted.total.written), (80, 40, 2));
}

/// From episodes to figures, with the built-in worker.
#[test]
fn every_condition_is_measured_on_the_turns_of_episodes() {
    let line = |n: usize| format!("The Oslo ledger {n} is kept by Ana.");
    let context: Vec<String> =
        (0..6).map(|n| format!(r#"{{"source": "finding", "text": "{}"}}"#, line(n))).collect();
    let turn = |response: &str| {
        format!(
            r#"{{"agent": "x", "context": [{}], "instruction": "Who keeps the Oslo ledger?", "response": "{response}",
            "decisions": [{{"name": "who", "opening": "The Oslo ledger is kept by ", "options": ["Ana", "Bo"], "chosen": "Ana"}}]}}"#,
            context.join(",")
        )
        .replace('\n', " ")
    };
    let rows = format!(
        "{{\"id\": \"1\", \"turns\": [{}]}}\n{{\"id\": \"2\", \"turns\": [{}]}}",
        turn("Ana"),
        turn("Ana keeps it.")
    );
    let made = items(&read(&rows).episodes, &BTreeSet::new());
    let conditions =
        ["full-kv", "none", "hierarchical:keep=0.3,held=0.5,chunk=32", "latent-briefing:keep=0.3"];
    let plan = RetainedPlan { conditions: conditions.map(str::to_owned).to_vec(), ..RetainedPlan::default() };
    let rows = retained::run(embedded(), &plan, &made, None, &CancelToken::new(), &|_| {}).unwrap().rows;
    assert!(rows.iter().all(|row| row.failure.is_none()), "{rows:?}");
    let settings = Bootstrap { resamples: 100, ..Bootstrap::default() };
    let summary = summarise("w", "d", &rows, &settings).unwrap();
    let figures = fidelity(&rows, &summary, &TokenPrice::default(), &settings).unwrap();
    assert_eq!(figures.len(), conditions.len());
    let full = &figures[0];
    assert!((full.as_full.unwrap().share - 1.0).abs() < 1e-12);
    assert!((full.retained.unwrap().0 - 1.0).abs() < 1e-9);
    assert!(figures[1].worker_tokens < figures[2].worker_tokens);
    assert!(figures[2].worker_tokens < full.worker_tokens);
    assert!(figures[2].price > 0.0 && figures[2].first_token_ms > 0.0);
    assert!(coordination::fidelity::table(&figures).contains("hierarchical:keep=0.3"));
}

#[test]
fn two_levels_that_keep_everything_are_the_full_cache() {
    let made = logs::generated(50_000, 1, 2).unwrap();
    let conditions = [
        "hierarchical:keep=1,held=1,chunk=64,picked=1,draft=0",
        "hierarchical:keep=0.2,held=0.5,chunk=64",
        "hierarchical:keep=0.2,held=0.5,chunk=64,picked=0.3",
    ];
    let plan = RetainedPlan { conditions: conditions.map(str::to_owned).to_vec(), ..RetainedPlan::default() };
    let rows = retained::run(embedded(), &plan, &made, None, &CancelToken::new(), &|_| {}).unwrap().rows;
    for row in &rows {
        assert_eq!(row.failure, None);
        assert!(row.conditions[0].kl < 1e-3, "{}", row.conditions[0].kl);
        assert!((row.conditions[0].kept - 1.0).abs() < 1e-9);
        assert!(row.conditions[1].kept <= 0.21, "{}", row.conditions[1].kept);
        assert!(row.conditions[2].kept <= 0.21);
    }
    for (wrong, said) in [
        ("hierarchical:keep=2", "keep"),
        ("hierarchical:held=0", "held"),
        ("hierarchical:chunk=3", "chunk"),
        ("hierarchical:some=3", "some"),
    ] {
        let plan = RetainedPlan { conditions: vec![wrong.to_owned()], ..RetainedPlan::default() };
        says(plan.validate(), &[said]);
    }
}

#[test]
fn gates_and_debates_over_recorded_questions() {
    let made = logs::generated(50_000, 2, 2).unwrap();
    let cancel = CancelToken::new();
    let plan = sparse::SparsePlan {
        gates: vec!["attention:1".parse().unwrap(), "bm25:1".parse().unwrap()],
        workers: 2,
        ..sparse::SparsePlan::default()
    };
    let dir = tempfile::tempdir().unwrap();
    // One stream would be both questions of one log; two logs are apart.
    let items = [made[0].clone(), made[2].clone()];
    let rows = sparse::run(embedded(), &plan, &items, Some(dir.path()), &cancel, &|_| {}).unwrap().rows;
    assert_eq!(rows.len(), 3);
    let figures = sparse::figures(&rows, &Bootstrap { resamples: 100, ..Bootstrap::default() });
    assert_eq!(figures[0].gate, "all");
    assert!((figures[0].read - 1.0).abs() < 1e-12 && (figures[0].own_read - 1.0).abs() < 1e-12);
    assert!(figures[2].read < 0.75, "{figures:?}");
    assert!(figures[1].gating > 0.0 && figures[2].gating.abs() < 1e-12);
    assert!(sparse::table(&figures).contains("attention:1"));
    // What is there is not made again.
    let again = sparse::run(embedded(), &plan, &items, Some(dir.path()), &cancel, &|_| {}).unwrap();
    assert_eq!((again.resumed, again.rows.len()), (3, 3));

    let told = ["alone", "text", "diff"].map(str::to_owned).to_vec();
    let plan = debate::DebatePlan { told, ..debate::DebatePlan::default() };
    let rows = debate::run(embedded(), &plan, &items[..1], None, &cancel, &|_| {}).unwrap().rows;
    let figures = debate::figures(&rows);
    assert_eq!(
        figures.iter().map(|figure| figure.told.as_str()).collect::<Vec<_>>(),
        ["alone", "text", "diff"]
    );
    assert!(figures[1].read > figures[2].read);
    let wrong = debate::DebatePlan { told: vec!["loudly".to_owned()], ..plan };
    says(debate::run(embedded(), &wrong, &items, None, &cancel, &|_| {}), &["loudly"]);
}
