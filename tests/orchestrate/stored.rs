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
