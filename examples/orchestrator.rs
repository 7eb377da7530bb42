//! A program works through a document part by part, keeps notes, and asks what only the notes answer.
//!
//! `cargo run --release --example orchestrator`

use std::process::ExitCode;

use latent_briefing::orchestrate::{DocumentWalk, Probe, Step, run};
use latent_briefing::prelude::*;

const PARTS: [&str; 6] = [
    "finding: The Velmar ledger is kept by Anara.\nfinding: The Oslund relay is rated 7.",
    "tool: Open part 2: done.\nreasoning: Next comes part 3.",
    "finding: Anara works in Redmoor.\nfinding: The code of the Torwick vault is 4821.",
    "reasoning: Perhaps the Torwick vault is kept by Tolio.\nfinding: The rating of the Torwick vault is 3.",
    "tool: Grep the Kelmere chart: no match in part 5.",
    "finding: It turns out that the keeper of the Torwick vault is Selio.\nfinding: Selio has an office in Coldhaven.",
];

fn probe(keyword: &str, question: &str, note: &str) -> Probe {
    Probe { keyword: keyword.into(), question: question.into(), note: note.into() }
}

fn main() -> ExitCode {
    match walk() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orchestrator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn walk() -> Result<(), Box<dyn std::error::Error>> {
    let probes = [
        probe("Velmar ledger", "Who keeps the Velmar ledger?", "The Velmar ledger is kept by {}."),
        probe("Anara works", "Where does Anara work?", "Anara works in {}."),
        probe(
            "code of the Torwick",
            "What is the code of the Torwick vault?",
            "The code of the Torwick vault is {}.",
        ),
        probe("keeper of the Torwick", "Who keeps the Torwick vault?", "The Torwick vault is kept by {}."),
        probe("Selio has", "Where does Selio work?", "Selio works in {}."),
    ];
    let questions = [
        "What is the code of the Torwick vault?".to_owned(),
        "Where does the keeper of the Torwick vault work?".to_owned(),
        "Where does the keeper of the Velmar ledger work?".to_owned(),
    ];
    let worker = Worker::embedded()?;
    let mut session = worker.session()?;
    let mut program = DocumentWalk::new(&PARTS.map(str::to_owned), &probes, &questions);
    let handoff = Handoff::briefing(Compaction::keep_ratio(0.4));
    let done = run(&mut program, &mut session, &handoff, 100, &mut |step| match step {
        Step::Log(segment) => println!("  log   {}: {}", segment.source.tag(), segment.text),
        Step::Ask(task) => println!("  ask   {}", task.question),
        Step::AskBriefed(task) => println!("  brief {}", task.question),
        _ => {}
    })?;
    println!();
    for reply in &done.briefed {
        println!(
            "{} -> {} ({:.0} % of the notes kept)",
            reply.task.question,
            reply.answer,
            100.0 * reply.keep_ratio
        );
    }
    let total = session.ledger().total();
    println!(
        "{} worker calls: {} positions attended, {} tokens read, {} reused, {} generated.",
        session.ledger().calls().len(),
        total.attended,
        total.prefilled,
        total.reused,
        total.generated
    );
    Ok(())
}
