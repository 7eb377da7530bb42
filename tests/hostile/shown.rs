//! What comes from documents and models is shown as text: it moves no cursor, makes no link and is no formula.

use latent_briefing::eval::answers::{AnswerRow, OrchestratorTokens};
use latent_briefing::eval::report::{Options, report};
use latent_briefing::session::CallTokens;

use crate::support::latent_briefing;

/// Sets a title, moves up, writes in red, turns the direction around.
const ACTS: &str = "\u{1b}]0;owned\u{7}\u{1b}[2A\u{9b}31m\u{202e}";

#[test]
fn a_run_shows_no_escape_sequence_of_a_document_or_a_question() {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join(format!("notes{ACTS}.txt"));
    std::fs::write(&context, format!("finding: The office{ACTS} of Anara is in Redmoor{ACTS}.\n")).unwrap();
    let question = format!("Where is the office{ACTS} of Anara?");
    for extra in [&[][..], &["--max-calls", "2"], &["--worker", "/no\u{1b}[2J/such"]] {
        let output = latent_briefing()
            .args(["run", "--document"])
            .arg(&context)
            .args(["--question", &question])
            .arg("--log")
            .arg(dir.path().join("log"))
            .args(extra)
            .output()
            .unwrap();
        let shown = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&shown);
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7}']), "{extra:?}: {text:?}");
        assert!(extra.len() == 2 || text.contains("\\u{1b}"), "{extra:?}: nothing of it is shown: {text:?}");
    }
}

#[test]
fn a_report_has_no_markup_and_no_formula_of_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let hostile =
        ["<img src=x onerror=alert(1)>", "=HYPERLINK(\"http://x\")", "[a](http://x)", "@SUM(1)", "a|b\nc"];
    let row = |item: usize, condition: &str| AnswerRow {
        item: format!("{} {item}", hostile[item % 5]),
        dataset: hostile[0].to_owned(),
        condition: condition.to_owned(),
        cluster: item as u64,
        kind: hostile[item % 5].to_owned(),
        length: Some(hostile[(item + 1) % 5].to_owned()),
        difficulty: Some(hostile[(item + 2) % 5].to_owned()),
        domain: Some(format!("{ACTS}<b>domain</b>")),
        seq_len: 500,
        score: f64::from(item.is_multiple_of(2)),
        worker: CallTokens { attended: 100, generated: 10, ..CallTokens::default() },
        orchestrator: OrchestratorTokens { input: 90, output: 10, ..OrchestratorTokens::default() },
        ..AnswerRow::default()
    };
    let rows: Vec<AnswerRow> =
        (0..40).flat_map(|item| [row(item, "full-kv"), row(item, "latent-briefing:tau=4")]).collect();
    let text: String = rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
    std::fs::write(dir.path().join("rows.jsonl"), text).unwrap();
    report(dir.path(), &Options::default()).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let (name, bytes) =
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match path.extension().and_then(|end| end.to_str()) {
            Some("md") => {
                assert!(!text.contains("<img") && !text.contains("](http://x)"), "{name}: {text}");
                assert!(text.contains("&lt;img"), "{name} shows the kinds");
                seen += 1;
            }
            Some("csv") => {
                for cell in text.lines().flat_map(|line| line.split(',')) {
                    let cell = cell.trim_start_matches('"');
                    let formula = cell.starts_with(['=', '@'])
                        || (cell.starts_with('-') && cell.parse::<f64>().is_err());
                    assert!(!formula, "{name}: {cell}");
                }
                seen += 1;
            }
            Some("html") => {
                assert!(!text.contains("<img src=x"), "{name}");
                seen += 1;
            }
            _ => continue,
        }
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{name}");
    }
    assert!(seen >= 2);
}
