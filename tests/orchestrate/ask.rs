//! Calls that are called off, cut short or heard.

use std::time::{Duration, Instant};

use latent_briefing::am::Compaction;
use latent_briefing::model::{PrefillOptions, StopReason};
use latent_briefing::prelude::*;
use latent_briefing::session::Error;
use latent_briefing::session::{Ask, CancelToken, SummaryConfig};

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
        let mut hear = |_: usize, _: &str| {
            heard += 1;
            cancel.cancel();
            true
        };
        let mut ask = Ask::new().cancelled_by(&cancel).heard_by(&mut hear);
        assert!(matches!(session.answer_via_with(&handoff, TASK, &mut ask), Err(Error::Cancelled)));
        // Not even begun.
        assert!(matches!(session.answer_via_with(&handoff, TASK, &mut ask), Err(Error::Cancelled)));
        let tasks = [TASK, TASK];
        let batch = session.answer_via_batch_with(&handoff, tasks, &mut ask);
        assert!(matches!(batch, Err(Error::Cancelled)));
        assert_eq!(heard, 1, "{}", handoff.name());
        assert_eq!((contents(session.cache()), session.ledger().clone()), before);
        assert!(session.answer_via(&handoff, TASK).is_ok(), "the next call knows nothing of it");
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
        let mut hear = |_: usize, _: &str| panic!("it was called off while it read");
        let mut ask = Ask::new().cancelled_by(&cancel).heard_by(&mut hear);
        assert!(matches!(session.answer_via_with(&handoff, task, &mut ask), Err(Error::Cancelled)));
        thread.join().unwrap();
    }
    assert!(session.ledger().calls().is_empty());
}

#[test]
fn a_deadline_ends_a_call() {
    let mut session = notes();
    let mut late = Ask::new().until(Instant::now());
    let error = session.answer_via_with(&Handoff::FullKv, TASK, &mut late).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let mut hear = |_: usize, _: &str| {
        std::thread::sleep(Duration::from_millis(60));
        true
    };
    let deadline = Instant::now() + Duration::from_millis(50);
    let mut ask = Ask::new().until(deadline).heard_by(&mut hear);
    // The answer has several tokens; the first takes longer than there is time.
    let error = session.answer_via_with(&Handoff::FullKv, TASK, &mut ask).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let mut ask = Ask::new().until(Instant::now() + Duration::from_hours(1));
    assert!(session.answer_via_with(&Handoff::FullKv, TASK, &mut ask).is_ok());
    assert_eq!(session.ledger().calls().len(), 1);
}

#[test]
fn an_answer_is_cut_at_the_calls_own_limit() {
    for handoff in handoffs() {
        let mut session = notes();
        let whole = session.answer_via(&handoff, TASK).unwrap().answer;
        assert_eq!(whole.stopped, StopReason::Eos);
        let short = session.answer_via_with(&handoff, TASK, &mut Ask::new().at_most(1)).unwrap().answer;
        assert_eq!((short.tokens.generated, short.stopped), (1, StopReason::MaxTokens));
        assert!(whole.text.starts_with(&short.text), "{whole} {short}");
        let more = whole.tokens.generated > 1;
        assert!(more == (whole.text != short.text) && (more || matches!(handoff, Handoff::Summary(_))));
    }
    let mut session = notes();
    let error = session.answer_via_with(&Handoff::FullKv, TASK, &mut Ask::new().at_most(0)).unwrap_err();
    assert!(matches!(error, Error::Config { field: "max_new_tokens", .. }), "{error}");
}

#[test]
fn answers_are_heard_by_their_numbers() {
    let config = SessionConfig { max_batch: 2, ..SessionConfig::default() };
    let mut session = WorkerSession::with(embedded(), config).unwrap();
    session.extend_all(super::lines(), &mut |_, _| {}).unwrap();
    let tasks = [TASK, "Who keeps the Velmar ledger?", "Where does Anara work?"];
    let mut heard = vec![String::new(); 3];
    let mut hear = |number: usize, text: &str| {
        heard[number].push_str(text);
        number != 1
    };
    let outcomes =
        session.answer_via_batch_with(&Handoff::FullKv, tasks, &mut Ask::new().heard_by(&mut hear)).unwrap();
    for (heard, outcome) in heard.iter().zip(&outcomes) {
        assert_eq!(heard.trim(), outcome.answer.text);
    }
    let stopped: Vec<StopReason> = outcomes.iter().map(|outcome| outcome.answer.stopped).collect();
    assert_eq!(stopped, [StopReason::Eos, StopReason::Callback, StopReason::Eos]);
}
