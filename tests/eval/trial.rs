//! The main table: an episode's questions under its six conditions, and files.

use latent_briefing::am::Compaction;
use latent_briefing::eval::answers::by_handoff::{kinds_table, summarise, table};
use latent_briefing::eval::condition::{Condition, DIRECT};
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::eval::{Error, calls, write_file};

use crate::support::{assert_error, embedded};

#[test]
fn every_question_is_answered_under_every_condition() {
    let episode = Episode::generate(5, &EpisodeConfig::held_out((60, 120), 3)).unwrap();
    let conditions = Condition::main_table(&Compaction::keep_ratio(0.3), 1);
    let rows = calls::ask(embedded(), &conditions, &episode).unwrap();
    assert_eq!(rows.len(), 6 * episode.questions.len());
    assert!(rows.iter().all(|r| r.right() == (r.answer == r.expected)));
    let briefed = rows.iter().filter(|r| r.condition == "latent-briefing");
    assert!(briefed.filter(|r| r.brief_s > 0.0).count() == episode.questions.len());
    let kept = |name: &str| rows.iter().find(|r| r.condition == name).unwrap().keep_ratio.unwrap();
    assert!((kept("recent") - kept("latent-briefing")).abs() < 1e-9);
    assert!((kept("random") - kept("latent-briefing")).abs() < 1e-9);
    let summaries = summarise(&rows);
    let names: Vec<&str> = summaries.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["none", "full-kv", "text-replay", "recent", "random", "latent-briefing"]);
    let json = serde_json::to_value(&summaries).unwrap();
    for field in ["name", "accuracy", "ci95", "worker_tokens", "keep_ratio", "brief_ms", "answer_ms"] {
        assert!(!json[0][field].is_null(), "{field}");
    }
    let again = calls::ask(embedded(), &conditions, &episode).unwrap();
    assert!(rows.iter().zip(&again).all(|(a, b)| a.answer == b.answer && a.keep_ratio.eq(&b.keep_ratio)));
    assert_eq!(table(&summaries).lines().filter(|l| l.contains('%')).count(), 7);
    assert!(kinds_table(&summaries).contains("latent-briefing"));
    let direct: Condition = DIRECT.parse().unwrap();
    assert_error!(calls::ask(embedded(), &[direct], &episode).unwrap_err(), Error::Config { .. }, "direct");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figures.json");
    write_file(&path, b"one").unwrap();
    write_file(&path, b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = write_file(&folder.path().join("missing/figures.json"), b"x").unwrap_err().to_string();
    assert!(error.contains("missing/figures.json"), "{error}");
}
