//! Sessions on disk.

use std::path::PathBuf;

use latent_briefing::am::Compaction;
use latent_briefing::model::KvCache;
use latent_briefing::prelude::*;
use latent_briefing::session::{CompactOldest, Error, PromptFormat, RoomPolicy};

use super::{contents, notes};
use crate::support::embedded;

const TASK: &str = "What is the code of the Oslund relay?";

/// A folder of its own, and a stored session in it.
fn stored(session: &WorkerSession) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.safetensors");
    session.save(&path).unwrap();
    (folder, path)
}

fn load(path: &PathBuf) -> Result<WorkerSession, Error> {
    WorkerSession::load(embedded(), SessionConfig::default(), path)
}

/// Whatever is asked, told or added later.
#[test]
fn a_session_goes_on_where_it_was() {
    let mut session = notes();
    session.note(Some("keeper"), "Anara").unwrap();
    let (_folder, path) = stored(&session);
    let mut again = load(&path).unwrap();
    assert_eq!(again.trajectory(), session.trajectory());
    assert_eq!((again.tokens(), again.notes()), (session.tokens(), session.notes()));
    let handoffs: [Handoff; 4] =
        [Handoff::FullKv, Compaction::keep_ratio(0.3).into(), Handoff::Notes, Handoff::TextReplay];
    for more in ["", "The code of the Oslund relay is 7007 now."] {
        if !more.is_empty() {
            for session in [&mut session, &mut again] {
                session.extend(Segment::finding(more)).unwrap();
            }
        }
        assert_eq!(contents(again.cache()), contents(session.cache()));
        for handoff in &handoffs {
            let [a, b] = [&mut session, &mut again].map(|session| {
                let outcome = session.ask(TASK).via(handoff).run().unwrap();
                (outcome.answer.text, outcome.kept_len)
            });
            assert_eq!(a, b, "{}", handoff.name());
        }
    }
    // What reads caches alone reads it too.
    let cache = KvCache::load(&path, embedded().config(), &embedded().model().device().clone()).unwrap();
    assert_eq!(cache.logical_len(), notes().seq_len());
}

#[test]
fn a_session_that_made_room_is_stored_as_it_is() {
    let limit = embedded().config().position_limit();
    let room = RoomPolicy::CompactOldest(CompactOldest { reserve: limit - 200, ..CompactOldest::default() });
    let config = || SessionConfig { room, ..SessionConfig::default() };
    let mut session = WorkerSession::with(embedded(), config()).unwrap();
    while session.room_reports().is_empty() {
        session.extend(Segment::tool("The Narmont chart is kept by Deka, another copy.")).unwrap();
    }
    let (_folder, path) = stored(&session);
    let mut again = WorkerSession::load(embedded(), config(), &path).unwrap();
    assert_eq!(again.room_reports(), session.room_reports());
    let [a, b] = [&mut session, &mut again].map(|session| {
        session.extend(Segment::finding("Deka works in Redmoor.")).unwrap();
        session.ask("Where does Deka work?").via(Handoff::FullKv).run().unwrap().answer.text
    });
    assert_eq!(a, b);
}

/// The first numbers of a tensor of the file, each times this.
fn changed(path: &PathBuf, tensor: &str, times: f32) {
    let bytes = std::fs::read(path).unwrap();
    let (size, data) = bytes.split_first_chunk::<8>().unwrap();
    let size = u64::from_le_bytes(*size) as usize;
    let header: serde_json::Value = serde_json::from_slice(&data[..size]).unwrap();
    let from = 8 + size + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let mut bytes = bytes.clone();
    for number in bytes[from..].as_chunks_mut::<4>().0.iter_mut().take(64) {
        *number = (f32::from_le_bytes(*number) * times).to_le_bytes();
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_no_session_of_this_worker_is_refused() {
    let session = notes();
    let (folder, path) = stored(&session);
    let told = |error: Error| match error {
        Error::Stored { path: named, reason } => {
            assert_eq!(named, path);
            reason
        }
        other => panic!("{other:?}"),
    };
    let refused = || told(load(&path).unwrap_err());
    session.cache().save(&path).unwrap();
    assert_eq!(refused(), "a cache without a session");
    for (note, reason) in [("{", "its session: "), ("{\"format\": 1}", "its session: ")] {
        session.cache().save_with(&path, Some(("latent_briefing_session", note.to_string()))).unwrap();
        assert!(refused().starts_with(reason), "{}", refused());
    }
    session.save(&path).unwrap();
    let format = PromptFormat { preamble: "What there is:\n".to_string(), ..PromptFormat::default() };
    let other = SessionConfig { format, ..SessionConfig::default() };
    let error = told(WorkerSession::load(embedded(), other, &path).unwrap_err());
    assert_eq!(error, "it begins with another prompt than this session's");
    // Weights that make other keys.
    let last = embedded().config().num_hidden_layers - 1;
    changed(&path, &format!("layers.{last}.0.keys"), 1.1);
    assert!(refused().contains("another one"), "{}", refused());
    session.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(matches!(load(&path), Err(Error::Model(_))), "{len} bytes");
    }
    assert!(matches!(load(&folder.path().join("none")), Err(Error::Model(_))));
    // Nothing is left beside the file.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Made here, answered over there, with no trajectory at hand.
#[test]
fn a_briefing_travels() {
    let session = notes();
    let briefing = session.brief(TASK, Compaction::keep_ratio(0.3)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("briefing.safetensors");
    briefing.save(embedded(), &path).unwrap();
    let again = Briefing::load(embedded(), &path).unwrap();
    assert_eq!(contents(again.cache()), contents(briefing.cache()));
    assert_eq!(
        (again.task(), again.kept_len(), again.kept_by()),
        (briefing.task(), briefing.kept_len(), briefing.kept_by())
    );
    assert_eq!((again.report(), again.draft()), (briefing.report(), briefing.draft()));
    assert_eq!(again.explain(embedded()), briefing.explain(embedded()));
    let here = session.snapshot().ask(TASK).over(&briefing).run().unwrap();
    let there = embedded().session().unwrap().snapshot().ask(TASK).over(&again).run().unwrap();
    assert_eq!((&there.answer.text, there.kept_len), (&here.answer.text, here.kept_len));

    // One that carries its task's state stays.
    let config = BriefConfig { task_state: TaskState::Reuse, ..Compaction::keep_ratio(0.3).into() };
    let reusing = session.brief(TASK, config).unwrap();
    let refused = reusing.save(embedded(), folder.path().join("other")).unwrap_err();
    assert!(refused.to_string().contains("does not travel"), "{refused}");
    // A session is no briefing, a damaged file is none, and another model's is not taken.
    let (_session, stored) = stored(&session);
    assert!(Briefing::load(embedded(), &stored).unwrap_err().to_string().contains("without a briefing"));
    let text = std::fs::read(&path).unwrap();
    let at = text.windows(9).position(|window| window == b"weights\\\"").unwrap() + 14;
    let mut other = text.clone();
    other[at] = if other[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(&path, &other).unwrap();
    let refused = Briefing::load(embedded(), &path).unwrap_err().to_string();
    assert!(refused.contains("another model"), "{refused}");
    std::fs::write(&path, &text[..text.len() - 8]).unwrap();
    assert!(Briefing::load(embedded(), &path).is_err());
}

/// What a fork reads, its origin does not, and the other way round.
#[test]
fn a_fork_goes_its_own_way() {
    let mut session = notes();
    let mut fork = session.fork();
    assert_eq!(contents(fork.cache()), contents(session.cache()));
    fork.extend(Segment::finding("The code of the Oslund relay is 7007 now.")).unwrap();
    session.extend(Segment::finding("The Oslund relay is gone.")).unwrap();
    for (own, text) in [(&mut fork, "is 7007 now"), (&mut session, "is gone")] {
        let mut alone = notes();
        alone.extend(own.trajectory().segments().last().unwrap().clone()).unwrap();
        assert!(alone.trajectory().segments().last().unwrap().text.contains(text));
        let answers =
            [own, &mut alone].map(|own| own.ask(TASK).via(Handoff::FullKv).run().unwrap().answer.text);
        assert_eq!(answers[0], answers[1]);
    }
    assert_eq!(fork.ledger().calls().len(), 1);
}
