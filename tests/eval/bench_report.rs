//! The report of a benchmark, from rows whose figures are known.

use std::path::Path;

use latent_briefing::eval::Error;
use latent_briefing::eval::answers::calibrate::{Rule, calibrate, family};
use latent_briefing::eval::answers::{AnswerRow, OrchestratorTokens, summarise};
use latent_briefing::eval::pipeline::{Part, read_rows};
use latent_briefing::eval::report::{Options, report};
use latent_briefing::eval::stats::bootstrap::Bootstrap;
use latent_briefing::session::{CallTokens, Chances};

use crate::support::assert_error;

fn row(item: usize, condition: &str, right: bool, attended: usize) -> AnswerRow {
    AnswerRow {
        item: format!("item-{item:03}"),
        dataset: "made".to_owned(),
        condition: condition.to_owned(),
        cluster: item as u64,
        kind: "count".to_owned(),
        length: Some(["short", "medium"][item % 2].to_owned()),
        difficulty: Some("easy".to_owned()),
        seq_len: 500 + item,
        expected: "7".to_owned(),
        answer: if right { "7" } else { "8" }.to_owned(),
        score: f64::from(right),
        worker: CallTokens { attended, generated: 10, ..CallTokens::default() },
        orchestrator: OrchestratorTokens { input: 90, output: 10, ..OrchestratorTokens::default() },
        prefill_s: 2.0,
        brief_s: if condition.starts_with("latent") { 0.5 } else { 0.0 },
        keep_ratio: condition.starts_with("latent").then_some(0.1),
        ..AnswerRow::default()
    }
}

/// 100 items: full cache right on 80, τ = 4 on the first 70 of these and 4 of the others, τ = 8 on half of them.
fn rows() -> Vec<AnswerRow> {
    let one = |i: usize| {
        [
            row(i, "full-kv", i < 80, 990),
            row(i, "text-replay", i < 80, 990),
            row(i, "latent-briefing:tau=4", !(70..96).contains(&i), 90),
            row(i, "latent-briefing:tau=8", i.is_multiple_of(2), 40),
        ]
    };
    (0..100).flat_map(one).collect()
}

fn few() -> Bootstrap {
    Bootstrap { resamples: 500, ..Bootstrap::default() }
}

fn write(dir: &Path, rows: &[AnswerRow], end: &str) {
    let mut text: String = rows.iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
    text.push_str(end);
    std::fs::write(dir.join("rows.jsonl"), text).unwrap();
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn figures_are_those_of_the_rows() {
    let mut rows = rows();
    // A failure counts as wrong, whatever its score.
    rows[2].failure = Some("no answer".to_owned());
    let summary = summarise(&rows, None, &few()).unwrap();
    assert_eq!(summary.reference, "full-kv");
    assert_eq!((summary.items, summary.documents, summary.failures.len()), (100, 100, 1));
    let f = &summary.conditions[2];
    assert_eq!((f.n, f.right, f.failures, f.pairs, f.medium), (100, 73, 1, 100, 50));
    close(f.accuracy, 0.73);
    // Wilson's interval of 73 in 100.
    assert!((f.accuracy_ci[0] - 0.6357).abs() < 2e-4 && (f.accuracy_ci[1] - 0.8073).abs() < 2e-4);
    let test = f.mcnemar.unwrap();
    assert_eq!((test.only_first, test.only_second), (4, 11));
    let difference = f.difference.unwrap();
    close(difference.estimate, -0.07);
    // Normal theory: 1.96 · √(0.15 − 0.07²) / 10 = 0.0746.
    assert!(
        (difference.low + 0.145).abs() < 0.02 && (difference.high - 0.005).abs() < 0.02,
        "{difference:?}"
    );
    close(f.retention.unwrap().estimate, 73.0 / 80.0);
    close(f.reduction.unwrap().estimate, 0.9);
    close(f.medium_savings.unwrap().estimate, 1.0 - 200.0 / 1100.0);
    close(f.overhead.unwrap().estimate, 0.25);
    close(f.worker_median, 100.0);
    close(f.total_mean, 200.0);
    let power = summary.power.iter().find(|p| p.condition == f.condition).unwrap();
    close(power.discordance, 0.15);
    // (1.95996 √0.15 + 0.84162 √(0.15 − 0.0009))² / 0.0009.
    assert_eq!(power.for_three_points, Some(1306));
    assert!(summary.noise.is_empty());
    let medium = summary.groups.iter().find(|g| g.axis == "length" && g.value == "medium").unwrap();
    assert_eq!((medium.conditions[2].n, medium.conditions[2].right), (50, 37));
    let replay = &summary.conditions[1];
    let none = replay.difference.unwrap();
    // Equal on all items is no certainty of being equal.
    assert!(none.estimate.abs() < 1e-12 && none.low < 0.0 && none.high > 0.0 && replay.reduction.is_none());
}

#[test]
fn the_orchestrators_noise_is_apart_from_the_handoffs() {
    let mut rows = Vec::new();
    for item in 0..200 {
        for repeat in 0..3 {
            // Both handoffs follow the run's turns.
            let right = (item * 7 + repeat * 5) % 3 == 0;
            rows.push(AnswerRow { repeat, ..row(item, "full-kv", right, 900) });
            rows.push(AnswerRow { repeat, ..row(item, "latent-briefing:tau=4", right, 90) });
        }
    }
    let noise = summarise(&rows, None, &few()).unwrap().noise;
    assert_eq!(noise.len(), 1);
    assert!(noise[0].handoff.estimate < 1e-12 && noise[0].orchestrator.estimate > 0.2, "{noise:?}");
}

#[test]
fn settings_are_chosen_on_one_part_and_reported_on_the_other() {
    let mut rows = Vec::new();
    for item in 0..400 {
        let part = if item < 200 { Part::Validation } else { Part::Test };
        let long = item % 2 == 0;
        let mut add = |condition: &str, right, tokens| {
            let length = Some(if long { "long" } else { "short" }.to_owned());
            rows.push(AnswerRow { part, length, ..row(item, condition, right, tokens) });
        };
        let known = item % 10 > 1;
        add("full-kv", known, 990);
        add("latent-briefing:tau=1", known, 400);
        // Too much for long documents.
        add("latent-briefing:tau=4", known && (!long || item % 3 == 0), 100);
    }
    let done = calibrate(&rows, None, &Rule::default(), &few()).unwrap().unwrap();
    assert_eq!(done.family, "latent-briefing:tau=*");
    close(done.single.value, 1.0);
    let value = |length: &str| done.classes.iter().find(|c| c.length == length).unwrap();
    close(value("long").value, 1.0);
    close(value("short").value, 4.0);
    assert_eq!((value("short").items, value("short").test.n), (100, 100));
    close(done.per_class.accuracy, 0.8);
    // Short ones take 110 tokens in the place of 410.
    close(done.saved.unwrap().estimate, 150.0 / 410.0);
    assert!(done.findings[0].contains("do not overlap"), "{:?}", done.findings);
    let few_items: Vec<AnswerRow> =
        rows.iter().filter(|r| r.item.as_str() < "item-020" || r.part == Part::Test).cloned().collect();
    let done = calibrate(&few_items, None, &Rule::default(), &few()).unwrap().unwrap();
    assert!(done.classes.iter().all(|c| c.too_few && (c.value - done.single.value).abs() < 1e-12));
    let test: Vec<AnswerRow> = rows.iter().filter(|r| r.part == Part::Test).cloned().collect();
    assert!(calibrate(&test, None, &Rule::default(), &few()).unwrap().is_none());
    assert_eq!(family("a:tau=0.5,seed=3"), Some(("a:tau=*,seed=3".to_owned(), 0.5)));
    assert_eq!(family("full-kv"), None);
}

#[test]
fn a_report_is_written_and_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = rows();
    rows[0].answer = "<img src=x onerror=alert(1)>".to_owned();
    rows[0].log = Some("../outside.jsonl".to_owned());
    write(dir.path(), &rows, "{\"item\": \"cut");
    let files = report(dir.path(), &Options { pages: true, bootstrap: few(), ..Options::default() }).unwrap();
    assert_eq!((files.faults.len(), files.pages), (1, 0));
    let page = std::fs::read_to_string(&files.html).unwrap();
    assert!(page.contains("&lt;img src") && !page.contains("<img src=x") && !page.contains("http://"));
    assert_eq!(page.matches("data:image/png;base64,").count(), files.plots.len());
    assert_eq!(files.plots.len(), 4);
    for plot in &files.plots {
        assert!(std::fs::read(plot).unwrap().starts_with(b"\x89PNG"));
    }
    let csv = std::fs::read_to_string(&files.csv).unwrap();
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().all(|l| l.split(',').count() == columns));
    let markdown = std::fs::read_to_string(&files.markdown).unwrap();
    assert!(
        markdown.contains("cut off (13 bytes)") && markdown.contains("| 74.0 [64.6, 81.6] |"),
        "{markdown}"
    );
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&files.json).unwrap()).unwrap();
    assert_eq!(json["summary"]["conditions"][2]["right"], 74);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1 + 4 + 4 + 1, "{left:?}");
}

#[test]
fn classes_are_in_order_and_settings_that_hold_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for item in 0..600 {
        let kind = ["needle", "count"][item % 2].to_owned();
        let length = Some(["2048", "512", "1024"][item % 3].to_owned());
        let mut add = |condition: &str, right, tokens| {
            rows.push(AnswerRow {
                kind: kind.clone(),
                length: length.clone(),
                ..row(item, condition, right, tokens)
            });
        };
        add("full-kv", true, 990);
        for (keep, tokens) in [("0.2", 200), ("0.1", 100), ("0.05", 50)] {
            // At a tenth, counts are lost.
            let right = keep == "0.2" || item % 2 == 0 && keep == "0.1";
            add(&format!("latent-briefing:keep={keep}"), right, tokens);
            add(&format!("snapkv:keep={keep}"), item % 4 == 0, tokens);
        }
    }
    let summary = summarise(&rows, None, &few()).unwrap();
    let classes = |axis: &str| -> Vec<&str> {
        summary.groups.iter().filter(|g| g.axis == axis).map(|g| g.value.as_str()).collect()
    };
    assert_eq!(classes("length"), ["512", "1024", "2048"]);
    assert_eq!(classes("kind and length")[..2], ["count, 512", "count, 1024"]);
    write(dir.path(), &rows, "");
    let files = report(dir.path(), &Options { bootstrap: few(), ..Options::default() }).unwrap();
    assert!(files.plots.iter().any(|plot| plot.ends_with("accuracy_by_size.png")));
    let text = std::fs::read_to_string(&files.markdown).unwrap();
    let line = text.lines().find(|line| line.starts_with("| latent-briefing:keep=* |")).unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    // Over all items and for counts a fifth; a tenth for needles; a fifth for both.
    assert!(cells[2].starts_with("0.2: +0.0") && cells[3].starts_with("0.2:"), "{line}");
    assert!(cells[4].starts_with("0.1:") && cells[5] == "0.2", "{line}");
    let line = text.lines().find(|line| line.starts_with("| snapkv:keep=* |")).unwrap();
    assert_eq!(line.matches("none").count(), 4, "{line}");
}

#[test]
fn malformed_rows_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    assert_error!(read_rows::<AnswerRow>(dir.path()).unwrap_err(), Error::Io { .. }, "rows.jsonl");
    write(dir.path(), &rows()[..2], "nonsense\n{}\n");
    assert_error!(
        read_rows::<AnswerRow>(dir.path()).unwrap_err(),
        Error::Json { line_number: 3, .. },
        "rows.jsonl"
    );
    write(dir.path(), &rows()[..2], "{}\n");
    assert_error!(
        read_rows::<AnswerRow>(dir.path()).unwrap_err(),
        Error::Row { line_number: 3, field: "item", .. },
        "rows.jsonl"
    );
    let mut bad = rows()[0].clone();
    bad.score = 2.0;
    write(dir.path(), &[bad], "");
    assert_error!(
        read_rows::<AnswerRow>(dir.path()).unwrap_err(),
        Error::Row { line_number: 1, field: "score", .. },
        "rows.jsonl"
    );
    let twice = [rows()[0].clone(), rows()[1].clone(), rows()[0].clone()];
    write(dir.path(), &twice, "");
    assert_error!(
        read_rows::<AnswerRow>(dir.path()).unwrap_err(),
        Error::DuplicateRow { first: 1, second: 3, .. },
        "rows.jsonl"
    );
    write(dir.path(), &[], "");
    assert!(read_rows::<AnswerRow>(dir.path()).unwrap().rows.is_empty());
    assert_error!(
        report(dir.path(), &Options::default()).unwrap_err(),
        Error::Config { field: "rows", .. },
        "rows"
    );
    let other = summarise(&rows(), Some("no-such"), &few()).unwrap_err();
    assert_error!(other, Error::Config { field: "reference", .. }, "no-such");
}

#[test]
fn letters_are_compared_with_those_of_the_reference() {
    let chances = |of: [f64; 4], mass| Some(Chances { of: of.to_vec(), mass });
    let (sure, even) = ([0.7, 0.1, 0.1, 0.1], [0.25; 4]);
    let mut rows = Vec::new();
    for item in 0..4 {
        rows.push(AnswerRow { letters: chances(sure, 0.9), ..row(item, "full-kv", true, 990) });
        let own = if item == 0 { [0.1, 0.7, 0.1, 0.1] } else { even };
        rows.push(AnswerRow { letters: chances(own, 0.5), ..row(item, "latent-briefing:tau=4", true, 90) });
        // Rows of before have none.
        rows.push(row(item, "none", false, 9));
    }
    let summary = summarise(&rows, None, &few()).unwrap();
    let letters: Vec<_> = summary.conditions.iter().map(|f| f.letters.as_ref()).collect();
    let (None, Some(own), None) = (letters[0], letters[1], letters[2]) else { panic!("{letters:?}") };
    // Of equal chances the first letter is the likeliest.
    assert_eq!((own.pairs, own.agreement, own.mass), (4, 0.75, 0.5));
    let to_even: f64 = sure.iter().map(|p| p * (p / 0.25_f64).ln()).sum();
    let to_other = 0.7 * 7.0_f64.ln() + 0.1 * (1.0_f64 / 7.0).ln();
    close(own.kl.estimate, (3.0 * to_even + to_other) / 4.0);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &rows, "");
    let files = report(dir.path(), &Options { bootstrap: few(), ..Options::default() }).unwrap();
    let markdown = std::fs::read_to_string(&files.markdown).unwrap();
    assert!(markdown.contains("## Letters") && markdown.contains("| 75.0 ["), "{markdown}");
    let html = std::fs::read_to_string(&files.html).unwrap();
    assert!(html.contains("Letters") && html.contains("KL, nats"));
    let csv = std::fs::read_to_string(&files.csv).unwrap();
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().all(|line| line.split(',').count() == columns), "{csv}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&files.json).unwrap()).unwrap();
    assert_eq!(json["summary"]["conditions"][1]["letters"]["agreement"], 0.75);
}
