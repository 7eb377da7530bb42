//! Every way by which an orchestrator's text reaches the host, with far too much of it: time and memory are measured from
//! outside the process.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use latent_briefing::orchestrate::{Rlm, RlmConfig, RunRecord};

use crate::support::apart::{measured, part, tell_measured};
use crate::support::embedded;
use crate::support::monty;
use crate::support::orchestrators::Scripted;

/// What a run may take.
const TIME: Duration = Duration::from_secs(5);
/// What it may take with the start of its process, on a machine that runs other tests beside.
const SECONDS: u64 = 25;
/// The worker and its cache take some 100 MB of it.
const BYTES: u64 = 512 << 20;

const CONTEXT: &str = "finding: Anara keeps the Velmar ledger.";

fn config(log: Option<&Path>) -> RlmConfig {
    let mut config = super::findings_alone(log);
    config.limits.run.time = Some(TIME);
    config
}

fn code(code: &str) -> String {
    format!("I go on.\n```repl\n{code}\n```")
}

/// A run of one block of code, or of one whole reply.
fn run(reply: String) {
    let mut rlm = Rlm::new(embedded(), monty, config(None)).unwrap();
    rlm.add_context(CONTEXT).unwrap();
    let mut orchestrator = Scripted::new([reply, code("answer['content'] = 'done'\nanswer['ready'] = True")]);
    let ended =
        rlm.run(&mut orchestrator, "Who?").map(|run| run.answer).map_err(|stopped| stopped.to_string());
    // What the block showed stands before the prompt of the next turn.
    let shown = orchestrator.seen.get(1).map_or("", |seen| &seen[seen.len() - 2].content);
    tell_measured(format!("{ended:?} after {:?}", shown.chars().take(400).collect::<String>()));
}

/// A log of one turn, with something changed.
fn changed_log(change: impl Fn(String) -> String) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut rlm = Rlm::new(embedded(), monty, config(Some(dir.path()))).unwrap();
    rlm.add_context(CONTEXT).unwrap();
    let mut orchestrator = Scripted::new([code("note('a', 'PLACE')\nx = 'HERE'")]);
    let stopped = rlm.run(&mut orchestrator, "Who?").unwrap_err();
    let path = stopped.log.unwrap();
    drop(rlm);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, change(text)).unwrap();
    (dir, path)
}

fn resume(path: &Path) {
    let resumed = Rlm::resume(path, embedded(), monty, config(None));
    tell_measured(match resumed {
        Ok(resumed) => format!("resumed, {} differing", resumed.differing),
        Err(error) => error.to_string(),
    });
}

fn words(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut n = 0;
    while text.len() < bytes {
        let _ = write!(text, "word {n} ");
        n += 1;
    }
    text
}

/// Does nothing but in the processes that the tests start.
#[test]
fn played() {
    let Some(part) = part() else { return };
    match part.as_str() {
        "resume of 6 MB" => {
            let (_dir, path) = changed_log(|text| text.replace("PLACE", &words(6_000_000)));
            resume(&path);
        }
        "resume of a loop" => {
            let (_dir, path) = changed_log(|text| text.replace("x = 'HERE'", "while True: pass"));
            resume(&path);
        }
        "page of 15 MB" => {
            let (_dir, path) = changed_log(|text| text.replace("HERE", &words(15_000_000)));
            let record = RunRecord::open(path).unwrap();
            tell_measured(latent_briefing::explain::run_page(&record).unwrap().len());
        }
        "reply of 15 MB" => run(words(15_000_000)),
        "block of 15 MB" => run(code(&format!("x = '{}'\nprint(len(x))", words(7_000_000)))),
        block => run(code(block)),
    }
}

const PARTS: [(&str, &str); 17] = [
    // 47 s and 7.9 GB before texts were bounded.
    ("r = llm_query('y' * 60_000_000)\nprint(r[:200])", "Error: a call of 60000000 bytes"),
    // Just below the bound of bytes, far beyond the positions.
    ("r = llm_query('some words ' * 700_000)\nprint(r[:200])", "Error: "),
    ("r = llm_query('Who?', 'some words ' * 700_000)\nprint(r[:200])", "Error: "),
    ("r = llm_query('Who?', 'y' * 8_000_000)\nprint(r[:200])", "Error: "),
    ("r = llm_query_batched(['some words ' * 90_000] * 8)\nprint([t[:50] for t in r])", "Error: "),
    ("r = llm_query_batched(['Who?'] * 3, ['y' * 2_500_000] * 3)\nprint([t[:50] for t in r])", "Error: "),
    ("r = rlm_query('some words ' * 700_000)\nprint(r[:200])", "Error: "),
    ("r = rlm_query_batched(['z' * 4_000_000] * 2)\nprint([t[:50] for t in r])", "Error: "),
    ("r = note('k', 'some words ' * 300_000)\nprint(r)", "Error: "),
    ("r = note('k' * 3_000_000, 'x')\nprint(r)", "Error: "),
    ("print('y' * 60_000_000)", "yyyyyyyy"),
    ("answer['content'] = 'y' * 50_000_000\nanswer['ready'] = True", "a text of 50000000 bytes"),
    ("block of 15 MB", "7000"),
    ("reply of 15 MB", "done"),
    ("resume of 6 MB", ""),
    ("resume of a loop", "taking the run up again took longer"),
    ("page of 15 MB", ""),
];

#[test]
fn no_text_escapes_time_and_memory() {
    let test = "hostile::host_calls::played";
    let mut failures = String::new();
    for (part, told) in PARTS {
        let taken = measured(test, part);
        let (seconds, megabytes) = (taken.time.as_secs_f64(), taken.bytes >> 20);
        println!("{seconds:6.1} s {megabytes:5} MiB  {}", part.lines().next().unwrap());
        if taken.time > Duration::from_secs(SECONDS) || taken.bytes > BYTES || !taken.told.contains(told) {
            let _ = writeln!(failures, "{part:?}: {taken:?}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
