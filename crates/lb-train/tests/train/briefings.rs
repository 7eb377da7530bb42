//! Values and biases trained from a briefing's closed form on.

use candle_core::DType;
use lb_am::Compaction;
use lb_model::Differentiable;
use lb_session::{Briefing, OpenSession, Segment, TaskState, WorkerSession};
use lb_train::{Error, Learning, Lesson, TrainedBriefing};

use crate::support::compare::{assert_same, distance, flat};
use crate::support::embedded;

const TASK: &str = "Who keeps the Velmar ledger?";
/// The path and the decoder sum in another order.
const ROUNDING: f64 = 1e-4;

fn session() -> WorkerSession {
    let mut session = embedded().session().unwrap();
    for text in [
        "The Velmar ledger is kept by Anara.",
        "Grep the Oslund beacon: no match in part 2.",
        "The Tarn archive is kept by Osric.",
        "The Oslund beacon is in the harbour.",
    ] {
        session.extend(Segment::finding(text)).unwrap();
    }
    session
}

fn lessons(session: &WorkerSession) -> Vec<Lesson> {
    let tasks = ["Who keeps the Tarn archive?", "Where is the Oslund beacon?", TASK];
    let snapshot = session.snapshot();
    tasks.iter().zip(0..).map(|(task, seed)| Lesson::made_up(&snapshot, *task, 12, seed).unwrap()).collect()
}

#[test]
fn training_comes_nearer_to_the_full_cache() {
    let session = session();
    let lessons = lessons(&session);
    let path = Differentiable::of(embedded().model(), DType::F32).unwrap();
    let start = session.brief(TASK, Compaction::keep_ratio(0.2)).unwrap();
    let mut training = TrainedBriefing::new(&path, &start, Learning::default()).unwrap();
    let before = training.loss(&lessons).unwrap();
    // Nothing has moved yet.
    let still = training.briefing().unwrap();
    for (a, b) in still.cache().layers().unwrap().iter().zip(start.cache().layers().unwrap()) {
        assert_same(&a.keys, &b.keys);
        assert!(distance(&flat(&a.values), &flat(&b.values)) < ROUNDING);
    }
    assert_eq!(
        still.cache().mean_slots(),
        start.cache().mean_slots(),
        "no slot comes back that was left out"
    );
    for _ in 0..60 {
        training.step(&lessons).unwrap();
    }
    let after = training.loss(&lessons).unwrap();
    assert!(before > 0.0 && after < 0.5 * before, "{before} nats a token, then {after}");

    // What the decoder says over the trained briefing is what was trained.
    let trained = training.briefing().unwrap();
    assert_eq!((training.steps(), trained.seq_len()), (60, start.seq_len()));
    for (own, first) in trained.cache().layers().unwrap().iter().zip(start.cache().layers().unwrap()) {
        assert_same(&own.keys, &first.keys);
    }
    let again = TrainedBriefing::new(&path, &trained, Learning::default()).unwrap();
    assert!((again.loss(&lessons).unwrap() - after).abs() < ROUNDING);

    // It travels as any other.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("briefing.safetensors");
    trained.save(embedded(), &file).unwrap();
    let loaded = Briefing::load(embedded(), &file).unwrap();
    let answer = |briefing: &Briefing| session.snapshot().ask(TASK).over(briefing).run().unwrap().answer.text;
    assert_eq!(answer(&loaded), answer(&trained));
}

/// Biases alone leave values as they are, and the other way round.
#[test]
fn only_what_is_asked_for_moves() {
    let session = session();
    let lessons = lessons(&session);
    let path = Differentiable::of(embedded().model(), DType::F32).unwrap();
    let start = session.brief(TASK, Compaction::keep_ratio(0.3)).unwrap();
    for (values, biases) in [(true, false), (false, true)] {
        let learning = Learning { values, biases, ..Learning::default() };
        let mut training = TrainedBriefing::new(&path, &start, learning).unwrap();
        training.step(&lessons).unwrap();
        let moved = training.briefing().unwrap();
        let (moved, first) = (moved.cache().layers().unwrap(), start.cache().layers().unwrap());
        let far = |of: fn(&lb_am::LayerKv) -> Vec<f64>| {
            moved.iter().zip(&first).map(|(a, b)| distance(&of(a), &of(b))).fold(0.0, f64::max)
        };
        assert_eq!(far(|layer| flat(&layer.values)) > ROUNDING, values);
        // Slots without a bias but −∞ are the same number.
        assert_eq!(far(|layer| layer.bias.as_ref().map_or_else(Vec::new, flat)) > ROUNDING, biases);
    }
}

#[test]
fn what_cannot_be_trained_is_said() {
    let session = session();
    let path = Differentiable::of(embedded().model(), DType::F32).unwrap();
    let start = session.brief(TASK, Compaction::keep_ratio(0.3)).unwrap();
    let refused = |learning: Learning| {
        let error = TrainedBriefing::new(&path, &start, learning).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
    };
    refused(Learning { rate: 0.0, ..Learning::default() });
    refused(Learning { rate: f64::NAN, ..Learning::default() });
    refused(Learning { values: false, biases: false, ..Learning::default() });
    let mut training = TrainedBriefing::new(&path, &start, Learning::default()).unwrap();
    assert!(matches!(training.step(&[]), Err(Error::Empty { arg: "lessons" })));
    assert!(matches!(Lesson::given(&session.snapshot(), TASK, &[]), Err(Error::Empty { arg: "answer" })));
    let config =
        lb_session::BriefConfig { task_state: TaskState::Reuse, ..Compaction::keep_ratio(0.3).into() };
    let reused = session.brief(TASK, config).unwrap();
    let training = TrainedBriefing::new(&path, &reused, Learning::default()).unwrap();
    assert!(training.briefing().unwrap_err().to_string().contains("state"));
}
