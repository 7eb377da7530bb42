//! A result for each task of a batch.

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;
use latent_briefing::session::CancelToken;
use latent_briefing::session::Error;

use super::lines;
use crate::support::embedded;

fn session(max_batch: usize) -> WorkerSession {
    let config = SessionConfig { max_batch, ..SessionConfig::default() };
    let mut session = WorkerSession::with(embedded(), config).unwrap();
    session.extend_all(lines(), &mut |_, _| {}).unwrap();
    session
}

#[test]
fn one_task_at_fault_leaves_the_others_their_answers() {
    let long = "word ".repeat(embedded().config().position_limit());
    let tasks = [
        "Who keeps the Velmar ledger?",
        " ",
        "Where does Anara work?",
        &long,
        "What is the code of the Oslund relay?",
    ];
    for handoff in [Handoff::None, Handoff::FullKv, Handoff::briefing(Compaction::keep_ratio(0.3))] {
        for max_batch in [1, 2, 16] {
            let mut batch = session(max_batch);
            let results = batch.ask_all(tasks).via(&handoff).run_each();
            assert_eq!(results.len(), tasks.len());
            for (number, result) in results.iter().enumerate() {
                match (number, result) {
                    (1, Err(Error::Empty { arg: "task" })) | (3, Err(Error::Model(_))) => {}
                    (0 | 2 | 4, Ok(outcome)) => {
                        let expected = session(1).ask(tasks[number]).via(&handoff).run().unwrap();
                        assert_eq!(outcome.answer.text, expected.answer.text);
                        assert_eq!(outcome.answer.tokens, expected.answer.tokens);
                    }
                    (number, other) => panic!("{number}: {other:?}"),
                }
            }
            assert_eq!(batch.ledger().calls().len(), 3);
        }
    }
}

#[test]
fn what_is_wrong_with_all_is_told_to_each() {
    let mut session = session(2);
    let handoff = Handoff::briefing(Compaction::keep_ratio(0.0));
    let results = session.ask_all(["a", "b", "c"]).via(&handoff).run_each();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|result| matches!(result, Err(Error::Compaction(_)))));
    let none: [&str; 0] = [];
    assert!(session.ask_all(none).via(&handoff).run_each().is_empty());
}

/// Those that are done when it is called off stay done.
#[test]
fn a_batch_called_off_keeps_what_is_done() {
    let mut session = session(2);
    let cancel = CancelToken::new();
    let tasks = ["Who keeps the Velmar ledger?"; 5];
    let ask = session.ask_all(tasks).via(Handoff::FullKv).cancelled_by(&cancel);
    let results = ask
        .stream(|number, _| {
            if number >= 2 {
                cancel.cancel();
            }
            true
        })
        .run_each();
    let done: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, true, false, false, false]);
    assert!(results[2..].iter().all(|result| matches!(result, Err(Error::Cancelled))));
    assert_eq!(session.ledger().calls().len(), 2);
}

#[test]
fn a_large_batch_is_answered_in_groups_and_handed_out_as_it_goes() {
    let (mut grouped, mut single) = (session(3), session(16));
    let tasks: Vec<String> = (0..8).map(|number| format!("What is the code of relay {number}?")).collect();
    let handoff = Handoff::briefing(Compaction::keep_ratio(0.3));
    let mut heard = Vec::new();
    grouped.ask_all(tasks.clone()).via(&handoff).run_each_to(|number, outcome| {
        heard.push((number, outcome.unwrap().answer.text));
    });
    let expected = single.ask_all(tasks.clone()).via(&handoff).run().unwrap();
    let expected: Vec<(usize, String)> =
        expected.into_iter().map(|outcome| outcome.answer.text).enumerate().collect();
    assert_eq!(heard, expected);
    // A fault in the second group is named by its own number, and takes the first group's records back.
    let mut faulty: Vec<Task> = tasks.iter().map(|task| task.as_str().into()).collect();
    faulty[4] = Task::about("word ".repeat(embedded().config().position_limit()), "Who?");
    let before = grouped.ledger().clone();
    match grouped.ask_all(faulty).via(Handoff::FullKv).run() {
        Err(Error::Call { index: 4, source }) => assert!(matches!(*source, Error::Model(_))),
        other => panic!("{other:?}"),
    }
    assert_eq!(*grouped.ledger(), before);
    let config = SessionConfig { max_batch: 0, ..SessionConfig::default() };
    let error = WorkerSession::with(embedded(), config).unwrap_err();
    assert!(matches!(error, Error::Config { field: "max_batch", .. }), "{error}");
}
