//! One trajectory, many threads: a snapshot is shared, and each thread briefs and answers a task of its own over it while the
//! session goes on.
//!
//! `cargo run --release --example many_threads`

use std::thread;

use latent_briefing::prelude::*;

const NOTES: [&str; 4] = [
    "The Velmar ledger is kept by Anara.",
    "The Torwick vault is kept by Selio.",
    "The Oslund beacon is kept by Mirek.",
    "The Gorbek archive is kept by Tavia.",
];

fn main() -> latent_briefing::Result<()> {
    let worker = Worker::embedded()?;
    let mut session = worker.session()?;
    session.extend_all(NOTES.map(Segment::finding), &mut |_, _| {})?;

    // Cheap: the cache is not copied. What is appended later, it does not see.
    let now = session.snapshot();
    let tasks =
        ["Who keeps the Velmar ledger?", "Who keeps the Torwick vault?", "Who keeps the Oslund beacon?"];
    thread::scope(|scope| {
        let asked = tasks.map(|task| {
            let now = &now;
            (task, scope.spawn(move || now.ask(task).via(Compaction::keep_ratio(0.5)).run()))
        });
        session.extend(Segment::finding("The Velmar ledger was moved to Redmoor."))?;
        for (task, answer) in asked {
            let outcome = answer.join().expect("no thread panics")?;
            println!("{task} {} ({} of {} positions)", outcome.answer, outcome.kept_len, now.seq_len());
        }
        Ok(())
    })
}
