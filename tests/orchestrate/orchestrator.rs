//! The loop between an orchestrator and its worker.

use latent_briefing::am::Compaction;
use latent_briefing::orchestrate::{DocumentWalk, Error, Probe, Program, Step, run};
use latent_briefing::prelude::*;

use crate::support::embedded;

fn briefing() -> Handoff {
    Handoff::briefing(Compaction::keep_ratio(0.5))
}

#[test]
fn a_document_walk_logs_findings_and_dead_ends_and_asks_at_the_end() {
    let parts = [
        "finding: The Velmar ledger is kept by Anara.".to_owned(),
        "finding: Nothing of note.".to_owned(),
        "finding: The Oslund relay is kept by Tolio.".to_owned(),
    ];
    let probe = |name: &str| Probe {
        keyword: name.to_owned(),
        question: format!("Who keeps the {name}?"),
        note: format!("The {name} is kept by {{}}."),
    };
    let questions = ["Who keeps the Velmar ledger?".to_owned(), "Who keeps the Oslund relay?".to_owned()];
    let mut walk = DocumentWalk::new(&parts, &[probe("Velmar ledger"), probe("Oslund relay")], &questions);
    let mut session = embedded().session().unwrap();
    let mut seen = 0;
    let done = run(&mut walk, &mut session, &briefing(), 100, &mut |_| seen += 1).unwrap();
    assert_eq!(done.steps, seen);
    let sources: Vec<Source> = session.trajectory().segments().iter().map(|s| s.source).collect();
    let expected = [Source::Tool, Source::Finding, Source::Reasoning, Source::Tool, Source::Finding];
    assert_eq!(sources, expected);
    assert!(session.trajectory().segments()[1].text.starts_with("The Velmar ledger is kept by "));
    assert_eq!(done.briefed.len(), 2);
    assert_eq!(done.answer.lines().count(), 2);
    assert!(done.briefed.iter().all(|b| b.keep_ratio > 0.0 && b.keep_ratio < 0.6));
    // Two probes and two questions.
    assert_eq!(session.ledger().calls().len(), 4);
}

#[test]
fn the_worker_of_the_walk_reads_its_slice_and_the_notes() {
    // The answer can only have come from the slice to the notes, and from there over the cache to the reply.
    let facts = [
        "finding: The Velmar ledger is kept by Anara.".to_owned(),
        "finding: The Torwick vault is kept by Selio.".to_owned(),
    ];
    let probe = |item: &str| Probe {
        keyword: item.to_owned(),
        question: format!("Who keeps the {item}?"),
        note: format!("The {item} is kept by {{}}."),
    };
    let question = "Who is the keeper of the Velmar ledger?".to_owned();
    let mut walk = DocumentWalk::new(&facts, &[probe("Velmar ledger"), probe("Torwick vault")], &[question]);
    let mut session = embedded().session().unwrap();
    let done = run(&mut walk, &mut session, &Handoff::FullKv, 100, &mut |_| {}).unwrap();
    let notes: Vec<&str> = session.trajectory().segments().iter().map(|s| s.text.as_str()).collect();
    assert!(notes.contains(&"The Torwick vault is kept by Selio."), "{notes:?}");
    assert_eq!(done.answer, "Anara");
}

#[test]
fn a_run_that_does_not_finish_ends_with_its_limit() {
    let mut program = Program::new(|_| Ok(Step::Log(Segment::reasoning("Still thinking."))));
    let mut session = embedded().session().unwrap();
    let result = run(&mut program, &mut session, &briefing(), 7, &mut |_| {});
    assert!(matches!(result, Err(Error::StepLimit { steps: 7 })));
    assert_eq!(session.trajectory().len(), 7);
}

#[test]
fn an_orchestrator_may_fail() {
    let mut program = Program::new(|_| Err("no such file".into()));
    let mut session = embedded().session().unwrap();
    let error = run(&mut program, &mut session, &briefing(), 7, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("no such file"));
}
