//! Several tasks over one trajectory in a batch: the briefings, answers and ledgers of one call for each.

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;
use latent_briefing::session::Error;
use latent_briefing::session::{CallRecord, CallTimes};

use super::{contents, notes};

const TASKS: [&str; 5] = [
    "Who keeps the Velmar ledger?",
    "What is the code of the Oslund relay?",
    "Where does Anara work?",
    "Say it in one word: in which place is the vault of Torwick stored, if it is stored anywhere at all?",
    "Who keeps the Velmar ledger?",
];

/// Biases and values fitted to queries that differ in the last bits.
const FITTED: f32 = 1e-3;

fn handoffs() -> Vec<Handoff> {
    let size = SelectionSize::KeptLen(30);
    let briefing = BriefConfig::from(Compaction::keep_ratio(0.3));
    vec![
        Handoff::None,
        Handoff::FullKv,
        Handoff::TextReplay,
        Handoff::Notes,
        "summary:8".parse().unwrap(),
        "summary:8,scope=task".parse().unwrap(),
        Handoff::bm25(SelectionSize::KeptLen(70)),
        Handoff::Recent(size),
        Handoff::Random { size, seed: 3 },
        Handoff::briefing(briefing.clone()),
        Handoff::briefing(briefing.clone().with_task_state(TaskState::Reuse)),
        Handoff::briefing(Compaction::mad(2.0).with_selection(Selection::per_head())),
        Handoff::briefing(briefing.clone().with_on_policy(true)),
        Handoff::briefing(briefing.clone().with_chunking(Chunking::in_place(20))),
        Handoff::briefing(briefing.clone().with_chunking(Chunking::rerotated(20))),
        Handoff::briefing(briefing.with_queries(QuerySource::ContextPrefill)),
    ]
}

/// What the ledger has of each call, but for time.
fn costs(session: &WorkerSession) -> Vec<CallRecord> {
    let without_time = |call: &CallRecord| CallRecord { times: CallTimes::default(), ..*call };
    session.ledger().calls().iter().map(without_time).collect()
}

#[test]
fn a_batch_answers_like_one_call_for_each_task() {
    for handoff in handoffs() {
        let (mut batch, mut single) = (notes(), notes());
        for session in [&mut batch, &mut single] {
            session.note(Some("relay"), "its code is 5521").unwrap();
        }
        let outcomes = batch.ask_all(TASKS).via(&handoff).run().unwrap();
        assert_eq!(outcomes.len(), TASKS.len());
        for (task, outcome) in TASKS.iter().zip(&outcomes) {
            let expected = single.ask(*task).via(&handoff).run().unwrap();
            assert_eq!(outcome.answer.text, expected.answer.text, "{handoff:?} {task}");
            assert_eq!(outcome.answer.tokens, expected.answer.tokens);
            assert_eq!(outcome.kept_len, expected.kept_len);
            assert!((outcome.keep_ratio - expected.keep_ratio).abs() < 1e-12);
            assert_eq!(outcome.briefing.is_some(), expected.briefing.is_some());
            assert!(outcome.answer.elapsed.as_nanos() > 0);
        }
        assert_eq!(costs(&batch), costs(&single));
        assert_eq!(contents(batch.cache()), contents(notes().cache()), "the trajectory stays as it is");
    }
}

/// The same slots; keys as they are, and fits that differ by the order of summation.
#[test]
fn briefings_of_a_batch_are_those_cut_one_by_one() {
    let session = notes();
    for handoff in handoffs() {
        let Handoff::LatentBriefing(config) = handoff else { continue };
        let briefings = session.brief_batch(TASKS, config.as_ref().clone()).unwrap();
        for (task, briefing) in TASKS.iter().zip(&briefings) {
            let expected = session.brief(*task, config.as_ref()).unwrap();
            assert_eq!((briefing.task(), briefing.task_state()), (expected.task(), expected.task_state()));
            assert_eq!((briefing.kept_len(), briefing.seq_len()), (expected.kept_len(), expected.seq_len()));
            let kept = |briefing: &Briefing| -> Vec<f32> {
                briefing.explain(session.worker()).iter().map(|position| position.kept_by).collect()
            };
            assert_eq!(kept(briefing), kept(&expected));
            let both = contents(briefing.cache()).into_iter().zip(contents(expected.cache()));
            for (a, b) in both.flat_map(|(a, b)| a.into_iter().zip(b)) {
                assert!(a.to_bits() == b.to_bits() || (a - b).abs() <= FITTED * b.abs().max(1.0), "{a} {b}");
            }
            assert!(briefing.timing().total().as_nanos() > 0);
        }
    }
}

/// Briefings of different kinds and sizes, one that two tasks share, one that reuses its task.
#[test]
fn calls_of_a_batch_need_not_be_alike() {
    let (mut batch, mut single) = (notes(), notes());
    let brief = |task, compaction: Compaction, state| {
        batch.brief(task, BriefConfig::from(&compaction).with_task_state(state)).unwrap()
    };
    let shared = brief(TASKS[0], Compaction::keep_ratio(0.4), TaskState::Recompute);
    let small = brief(TASKS[1], Compaction::kept_len(9), TaskState::Reuse);
    let per_head = Compaction::keep_ratio(0.2).with_selection(Selection::per_head());
    let ragged = brief(TASKS[2], per_head, TaskState::Recompute);
    let again = brief(TASKS[3], Compaction::keep_ratio(0.9), TaskState::Reuse);
    let calls: [(&Briefing, Task); 5] = [
        (&shared, TASKS[0].into()),
        (&small, TASKS[1].into()),
        (&ragged, TASKS[2].into()),
        (&shared, Task::about("finding: The code of the Narmont chart is 7719.", "What is the code?")),
        (&again, TASKS[3].into()),
    ];
    let (briefings, tasks): (Vec<&Briefing>, Vec<Task>) = calls.clone().into_iter().unzip();
    let outcomes = batch.ask_all(tasks).over(briefings).run().unwrap();
    for ((briefing, task), outcome) in calls.into_iter().zip(&outcomes) {
        let expected = single.ask(task).over(briefing).run().unwrap().answer;
        assert_eq!((&outcome.answer.text, outcome.answer.tokens), (&expected.text, expected.tokens));
        assert!((outcome.keep_ratio - briefing.keep_ratio()).abs() < 1e-12);
    }
    assert_eq!(costs(&batch), costs(&single));
}

#[test]
fn a_call_at_fault_is_named_and_nothing_is_recorded() {
    let mut session = notes();
    let before = session.ledger().clone();
    let config = Compaction::keep_ratio(0.3);
    let named = |error: Error, number: usize| match error {
        Error::Call { index, source } if index == number => *source,
        other => panic!("{other}"),
    };
    let error = session.brief_batch([TASKS[0], " "], &config).unwrap_err();
    assert!(matches!(named(error, 1), Error::Empty { arg: "task" }));
    let error = session.ask_all(["", TASKS[0]]).via(Handoff::FullKv).run().unwrap_err();
    assert!(matches!(named(error, 0), Error::Empty { arg: "task" }));

    let reused =
        session.brief(TASKS[0], BriefConfig::from(&config).with_task_state(TaskState::Reuse)).unwrap();
    let plain = session.brief(TASKS[1], &config).unwrap();
    let error = session.ask_all([TASKS[1], TASKS[1]]).over([&plain, &reused]).run().unwrap_err();
    assert!(matches!(named(error, 1), Error::TaskMismatch { .. }));

    // The one that does not fit the model is third, and second of those that are read.
    let long = "word ".repeat(session.worker().config().position_limit());
    let error =
        session.ask_all([TASKS[1], TASKS[0], &long]).over([&plain, &reused, &plain]).run().unwrap_err();
    let overflow =
        |error: Error| matches!(error, Error::Model(latent_briefing::model::Error::TooManyTokens { .. }));
    assert!(overflow(named(error, 2)));
    assert!(overflow(named(session.brief_batch([TASKS[0], &long], &config).unwrap_err(), 1)));
    assert!(overflow(named(session.ask_all([&*long]).via(Handoff::FullKv).run().unwrap_err(), 0)));

    let error = session.ask_all(TASKS).over([&plain]).run().unwrap_err();
    assert!(matches!(error, Error::Config { field: "briefings", .. }), "{error}");
    let told = session.ask_all(TASKS).over([&plain]).run_each();
    assert!(told.len() == TASKS.len() && told.iter().all(Result::is_err));

    let error = session.brief_batch(TASKS, Compaction::keep_ratio(0.0)).unwrap_err();
    assert!(error.to_string().contains("keep_ratio"), "{error}");
    let empty = crate::support::embedded().session().unwrap();
    assert!(matches!(empty.brief_batch(TASKS, &config), Err(Error::Empty { arg: "trajectory" })));
    assert_eq!(*session.ledger(), before);
}

#[test]
fn an_empty_batch_is_nothing() {
    let mut session = notes();
    let none: [&str; 0] = [];
    assert!(session.brief_batch(none, Compaction::default()).unwrap().is_empty());
    assert!(session.ask_all(none).over([]).run().unwrap().is_empty());
    for handoff in handoffs() {
        assert!(session.ask_all(none).via(&handoff).run().unwrap().is_empty());
    }
    assert!(session.ledger().calls().is_empty());
}
