//! Briefings by vectors that stand in for the answer.

use std::path::PathBuf;

use latent_briefing::am::{Compaction, Spans, Units};
use latent_briefing::model::{Error as ModelError, InputVectors};
use latent_briefing::prelude::*;
use latent_briefing::session::{Error, Learned};
use tempfile::TempDir;

use super::{contents, notes};
use crate::support::checkpoints::{TIED, worker};

const TASK: &str = "What is the code of the Oslund relay?";
const ECHOED: usize = 8;
/// What two orders of summation may be apart.
const ROUNDING: f32 = 1e-3;

fn config() -> BriefConfig {
    BriefConfig::from(Compaction::keep_ratio(0.3)).with_lookahead(Lookahead::NONE)
}

/// The embeddings of what an echo of eight tokens reads: the beginning of the only segment in the author's own words.
fn vectors(session: &WorkerSession) -> (TempDir, PathBuf) {
    let snapshot = session.snapshot();
    let starts = snapshot.unit_starts(Spans::Units(Units::Segments)).unwrap();
    // The template's head comes first.
    let own = session.trajectory().segments().iter().position(|s| s.source == Source::Reasoning).unwrap();
    let start = starts[own + 1] as usize;
    let model = session.worker().model();
    let rows = model.embeddings(&snapshot.tokens()[start..start + ECHOED]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.safetensors");
    InputVectors::new(rows).save(&path, model).unwrap();
    (folder, path)
}

/// The same path as tokens take, from the first layer to the last fit.
#[test]
fn embeddings_of_an_echo_are_the_echo() {
    let session = notes();
    let (_folder, path) = vectors(&session);
    let echo = session.brief(TASK, config().with_lookahead(Lookahead::echo(ECHOED))).unwrap();
    let learned = session.brief(TASK, config().with_lookahead(Lookahead::learned(&path))).unwrap();
    // An echo is read together with the task, vectors by themselves: the last bits of sums differ.
    let (learned_slots, echo_slots) = (contents(learned.cache()), contents(echo.cache()));
    let numbers = |slots: &[Vec<f32>]| slots.concat();
    assert_eq!(numbers(&learned_slots).len(), numbers(&echo_slots).len());
    for (a, b) in numbers(&learned_slots).iter().zip(numbers(&echo_slots)) {
        assert!(a.to_bits() == b.to_bits() || (a - b).abs() <= ROUNDING * b.abs().max(1.0), "{a} and {b}");
    }
    assert!(learned.draft().is_empty());

    let plain = session.brief(TASK, config()).unwrap();
    assert_ne!(contents(learned.cache()), contents(plain.cache()));
    let heavy =
        Lookahead { learned: Some(Learned { weight: 50.0, ..Learned::of(&path) }), ..Lookahead::NONE };
    let heavy = session.brief(TASK, config().with_lookahead(heavy)).unwrap();
    assert_ne!(heavy.report().scores, learned.report().scores);
    assert_eq!(heavy.kept_len(), learned.kept_len());

    let (task, mut other) = (session.task_tokens(TASK).unwrap().len(), notes());
    let text = format!("latent-briefing:keep=0.3,vectors={}", path.display());
    let cost = other.ask(TASK).via(text.parse::<Handoff>().unwrap()).run().unwrap().answer.tokens;
    assert_eq!(cost.prefilled, 2 * task + ECHOED);
}

#[test]
fn batches_renewals_and_pieces_read_them_too() {
    let mut session = notes();
    let (_folder, path) = vectors(&session);
    let both = Lookahead { echo: 4, draft: Some(Draft::of(4)), ..Lookahead::learned(&path) };
    let tasks = [TASK, "Who keeps the Velmar ledger?"];
    for lookahead in [Lookahead::learned(&path), both] {
        let config = config().with_lookahead(lookahead);
        let together = session.brief_batch(tasks, &config).unwrap();
        for (task, briefing) in tasks.into_iter().zip(together) {
            let alone = session.brief(task, &config).unwrap();
            assert_eq!(briefing.kept_len(), alone.kept_len());
            assert_eq!(briefing.draft(), alone.draft());
        }
        session.brief(TASK, config.clone().with_task_state(TaskState::Reuse)).unwrap();
        session.brief(TASK, config.clone().with_chunking(Chunking::in_place(20))).unwrap();
        session.ask(TASK).via(Renewal::every(3, config)).run().unwrap();
    }
}

#[test]
fn files_of_others_are_refused() {
    let session = notes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.safetensors");
    let refused = || match session.brief(TASK, config().with_lookahead(Lookahead::learned(&path))) {
        Err(Error::Model(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(), ModelError::Io { .. }));
    let other = worker(TIED);
    let rows = other.model().embeddings(&[1, 2]).unwrap();
    InputVectors::new(rows).save(&path, other.model()).unwrap();
    let error = refused();
    assert!(matches!(error, ModelError::TensorShape { .. }), "{error}");
    assert!(error.to_string().contains("vectors"), "{error}");
}
