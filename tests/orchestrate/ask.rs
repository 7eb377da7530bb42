//! Calls that are called off, cut short or heard.

use std::time::{Duration, Instant};

use latent_briefing::am::Compaction;
use latent_briefing::model::{PrefillOptions, StopReason};
use latent_briefing::prelude::*;
use latent_briefing::session::Error;
use latent_briefing::session::{CancelToken, SummaryConfig};

use super::{contents, notes};
use crate::support::embedded;

const TASK: &str = "What is the code of the Oslund relay?";

fn handoffs() -> Vec<Handoff> {
    vec![
        Handoff::FullKv,
        Handoff::TextReplay,
        Handoff::Summary(SummaryConfig::default().with_max_tokens(6)),
        Handoff::briefing(Compaction::keep_ratio(0.3)),
        Handoff::briefing(
            BriefConfig::from(Compaction::keep_ratio(0.3)).with_chunking(Chunking::rerotated(20)),
        ),
    ]
}

#[test]
fn a_call_that_is_called_off_leaves_no_trace() {
    for handoff in handoffs() {
        let mut session = notes();
        let before = (contents(session.cache()), session.ledger().clone());
        let cancel = CancelToken::new();
        let mut heard = 0;
        let mut hear = |_: &str| {
            heard += 1;
            cancel.cancel();
            true
        };
        let ask = session.ask(TASK).via(&handoff).cancelled_by(&cancel).stream(&mut hear);
        assert!(matches!(ask.run(), Err(Error::Cancelled)));
        // Not even begun.
        let ask = session.ask(TASK).via(&handoff).cancelled_by(&cancel).stream(&mut hear);
        assert!(matches!(ask.run(), Err(Error::Cancelled)));
        let ask = session.ask(TASK).via(&handoff).cancelled_by(&cancel);
        assert!(matches!(ask.prepare(), Err(Error::Cancelled)));
        let batch = session.ask_all([TASK, TASK]).via(&handoff).cancelled_by(&cancel);
        assert!(matches!(batch.stream(|_, text| hear(text)).run(), Err(Error::Cancelled)));
        assert_eq!(heard, 1, "{}", handoff.name());
        assert_eq!((contents(session.cache()), session.ledger().clone()), before);
        assert!(session.ask(TASK).via(&handoff).run().is_ok(), "the next call knows nothing of it");
    }
}

/// The text takes a hundred passes, far longer than the thread waits.
#[test]
fn reading_is_called_off_between_passes() {
    let prefill = PrefillOptions { chunk: 16 };
    let config = SessionConfig { prefill, ..SessionConfig::default() };
    let mut session = WorkerSession::with(embedded(), config).unwrap();
    session.extend(Segment::tool("Nothing was found in this part. ".repeat(200))).unwrap();
    let calls: [(Handoff, Task); 3] = [
        (Handoff::TextReplay, TASK.into()),
        (Handoff::FullKv, Task::about("word ".repeat(800), TASK)),
        (Handoff::briefing(Compaction::keep_ratio(0.1)), Task::about("word ".repeat(800), TASK)),
    ];
    for (handoff, task) in calls {
        let cancel = CancelToken::new();
        let remote = cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            remote.cancel();
        });
        let ask = session.ask(task).via(handoff).cancelled_by(&cancel);
        let ask = ask.stream(|_| panic!("it was called off while it read"));
        assert!(matches!(ask.run(), Err(Error::Cancelled)));
        thread.join().unwrap();
    }
    assert!(session.ledger().calls().is_empty());
}

#[test]
fn a_deadline_ends_a_call() {
    let mut session = notes();
    let late = session.ask(TASK).via(Handoff::FullKv).deadline(Instant::now());
    let error = late.run().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let slow = |_: &str| {
        std::thread::sleep(Duration::from_millis(60));
        true
    };
    // The answer has several tokens; the first takes longer than there is time.
    let deadline = Instant::now() + Duration::from_millis(50);
    let error = session.ask(TASK).via(Handoff::FullKv).deadline(deadline).stream(slow).run().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let limit = Duration::from_millis(50);
    let error = session.ask(TASK).via(Handoff::FullKv).timeout(limit).stream(slow).run().unwrap_err();
    match error {
        Error::Timeout { limit: named, .. } => assert!(named <= limit && named > limit / 2, "{named:?}"),
        other => panic!("{other}"),
    }
    // Of several the earliest holds.
    let hour = Duration::from_hours(1);
    let ask = session.ask(TASK).via(Handoff::FullKv).deadline(Instant::now()).timeout(hour);
    assert!(matches!(ask.run(), Err(Error::Timeout { .. })));
    let ask = session.ask(TASK).via(Handoff::FullKv).deadline(Instant::now() + hour).timeout(Duration::MAX);
    assert!(ask.run().is_ok());
    assert_eq!(session.ledger().calls().len(), 1);
}

#[test]
fn an_answer_is_cut_at_the_calls_own_limit() {
    for handoff in handoffs() {
        let mut session = notes();
        let whole = session.ask(TASK).via(&handoff).run().unwrap().answer;
        assert_eq!(whole.stopped, StopReason::Eos);
        let short = session.ask(TASK).via(&handoff).at_most(1).run().unwrap().answer;
        assert_eq!((short.tokens.generated, short.stopped), (1, StopReason::MaxTokens));
        assert!(whole.text.starts_with(&short.text), "{whole} {short}");
        let more = whole.tokens.generated > 1;
        assert!(more == (whole.text != short.text) && (more || matches!(handoff, Handoff::Summary(_))));
    }
    let mut session = notes();
    let error = session.ask(TASK).via(Handoff::FullKv).at_most(0).run().unwrap_err();
    assert!(matches!(error, Error::Config { field: "max_new_tokens", .. }), "{error}");
}

#[test]
fn answers_are_heard_by_their_numbers() {
    let config = SessionConfig { max_batch: 2, ..SessionConfig::default() };
    let mut session = WorkerSession::with(embedded(), config).unwrap();
    session.extend_all(super::lines(), &mut |_, _| {}).unwrap();
    let tasks = [TASK, "Who keeps the Velmar ledger?", "Where does Anara work?"];
    let mut heard = vec![String::new(); 3];
    let ask = session.ask_all(tasks).via(Handoff::FullKv).stream(|number, text| {
        heard[number].push_str(text);
        number != 1
    });
    let outcomes = ask.run().unwrap();
    for (heard, outcome) in heard.iter().zip(&outcomes) {
        assert_eq!(heard.trim(), outcome.answer.text);
    }
    let stopped: Vec<StopReason> = outcomes.iter().map(|outcome| outcome.answer.stopped).collect();
    assert_eq!(stopped, [StopReason::Eos, StopReason::Callback, StopReason::Eos]);
}

/// Without a handoff it is a briefing by the defaults; what is said last holds.
#[test]
fn a_task_alone_is_briefed_by_the_defaults() {
    let mut session = notes();
    let plain = session.ask(TASK).run().unwrap();
    let named = session.ask(TASK).via("latent-briefing".parse::<Handoff>().unwrap()).run().unwrap();
    assert_eq!((&plain.answer.text, plain.answer.tokens), (&named.answer.text, named.answer.tokens));
    assert_eq!(plain.record.handoff.name(), "latent-briefing");
    let briefing = plain.briefing.unwrap();
    let over = session.ask(TASK).via(Handoff::None).over(&briefing).run().unwrap();
    assert_eq!((over.answer.text, over.kept_len), (plain.answer.text, plain.kept_len));
    assert!(over.briefing.is_none() && (over.keep_ratio - briefing.keep_ratio()).abs() < 1e-12);
    let none = session.ask(TASK).over(&briefing).via(Handoff::None).run().unwrap();
    assert_eq!(none.kept_len, 0);
    let mut empty = embedded().session().unwrap();
    assert!(matches!(empty.ask(TASK).run(), Err(Error::Empty { arg: "trajectory" })));
}
