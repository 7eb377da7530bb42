//! Briefings and whole caches in few bits.

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;
use latent_briefing::session::Error;

use super::{contents, notes};
use crate::support::embedded;

const TASK: &str = "What is the code of the Oslund relay?";
const TASKS: [&str; 3] = [TASK, "Who keeps the Velmar ledger?", "Where is the Torwick vault stored?"];

fn keep(ratio: f64) -> BriefConfig {
    BriefConfig::from(Compaction::keep_ratio(ratio))
}

const PACKED: [Storage; 3] = [Storage::Bits8, Storage::Bits4, Storage::Bits2];

/// In 8 bits what is answered is what is answered in all of them, over the whole cache and over briefings.
#[test]
fn eight_bits_answer_like_all_of_them() {
    let mut session = notes();
    let before = contents(session.cache());
    for task in TASKS {
        let full = session.ask(task).via(Handoff::FullKv).run().unwrap();
        let packed = session.ask(task).via(Handoff::PackedKv(Storage::Bits8)).run().unwrap();
        assert_eq!(packed.answer.text, full.answer.text);
        assert_eq!((packed.kept_len, packed.answer.tokens), (full.kept_len, full.answer.tokens));
        assert!(packed.record.cache_bytes < full.record.cache_bytes / 2);
        for ratio in [0.7, 1.0] {
            let plain = session.ask(task).via(keep(ratio)).run().unwrap();
            let packed = session.ask(task).via(keep(ratio).with_storage(Storage::Bits8)).run().unwrap();
            assert_eq!(packed.answer.text, plain.answer.text, "{task} {ratio}");
            assert_eq!(packed.kept_len, plain.kept_len);
        }
    }
    assert_eq!(contents(session.cache()), before, "the session's own cache is as it was");
}

/// Fewer bits are fewer bytes, and what is stored is near what is stored in all of them.
#[test]
fn fewer_bits_are_fewer_bytes() {
    let session = notes();
    let config = keep(0.5).with_lookahead(Lookahead::NONE);
    let plain = session.brief(TASK, &config).unwrap();
    let mut bytes = vec![plain.cache().bytes()];
    for storage in PACKED {
        let briefing = session.brief(TASK, config.clone().with_storage(storage)).unwrap();
        assert_eq!(briefing.kept_len(), plain.kept_len());
        assert!((briefing.keep_ratio() - plain.keep_ratio()).abs() < 1e-12);
        bytes.push(briefing.cache().bytes());
    }
    // Of 64 channels in f32, the cache's dtype here, 64, 32 and 16 bytes are left, and their grids.
    for (fewer, part) in bytes[1..].iter().zip([2, 3, 4]) {
        assert!(*fewer < bytes[0] / part, "{bytes:?}");
    }
    assert!(bytes.is_sorted_by(|a, b| a > b), "{bytes:?}");
}

/// Every way of making a briefing makes it in few bits as well.
#[test]
fn every_way_packs() {
    let mut session = notes();
    let ways = [
        keep(0.5).with_task_state(TaskState::Reuse),
        keep(0.5).with_chunking(Chunking::in_place(30)),
        keep(0.5).with_on_policy(true),
        keep(0.5).with_queries(QuerySource::ContextPrefill),
        keep(0.5).with_lookahead(Lookahead::draft(Draft::of(4))),
        BriefConfig::from(Compaction::error_below(0.3)),
        BriefConfig::from(Compaction::keep_ratio(0.5).selection_only()),
        BriefConfig::from(Compaction::keep_ratio(0.5)).with_on_policy(true).with_task_state(TaskState::Reuse),
    ];
    for way in ways {
        let plain = session.brief(TASK, &way).unwrap();
        for storage in PACKED {
            let packed = session.brief(TASK, way.clone().with_storage(storage)).unwrap();
            let per_slot = |briefing: &Briefing| briefing.cache().bytes() / briefing.cache().mean_slots();
            assert!(per_slot(&packed) < per_slot(&plain) / 2, "{storage:?} {way:?}");
            let outcome = session.ask(TASK).via(way.clone().with_storage(storage)).run().unwrap();
            assert!(outcome.answer.tokens.generated > 0);
        }
    }
    let renewal = Renewal::every(2, keep(0.5).with_storage(Storage::Bits8));
    let outcome = session.ask(TASK).via(renewal).run().unwrap();
    let plain = session.ask(TASK).via(Renewal::every(2, keep(0.5))).run().unwrap();
    assert_eq!(outcome.answer.text, plain.answer.text);
    assert!(outcome.record.cache_bytes < plain.record.cache_bytes);
}

/// Many tasks over one packed cache, and over packed briefings, are answered as each alone.
#[test]
fn batches_are_answered_like_single_calls() {
    let mut session = notes();
    for handoff in [
        Handoff::PackedKv(Storage::Bits4),
        keep(0.6).with_storage(Storage::Bits8).into(),
        keep(0.6).with_storage(Storage::Bits4).with_task_state(TaskState::Reuse).into(),
    ] {
        let together = session.ask_all(TASKS).via(&handoff).run().unwrap();
        for (task, together) in TASKS.into_iter().zip(&together) {
            let alone = session.ask(task).via(&handoff).run().unwrap();
            assert_eq!(together.answer.text, alone.answer.text, "{task} {}", handoff.name());
        }
    }
}

/// A packed briefing that was saved answers like itself.
#[test]
fn a_packed_briefing_is_saved() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("briefing.safetensors");
    let briefing = notes().brief(TASK, keep(0.5).with_storage(Storage::Bits4)).unwrap();
    briefing.cache().save(&path).unwrap();
    let worker = embedded();
    let loaded = latent_briefing::model::KvCache::load(&path, worker.config(), &candle_core::Device::Cpu);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.bytes(), briefing.cache().bytes());
    assert_eq!(contents(&loaded), contents(briefing.cache()));
}

#[test]
fn what_cannot_be_packed_says_so() {
    let mut session = notes();
    let rerotated = keep(0.5).with_storage(Storage::Bits8).with_chunking(Chunking::rerotated(30));
    let refused = |error: Error| {
        assert!(matches!(&error, Error::Config { field: "storage" | "bits", .. }), "{error}");
    };
    refused(session.brief(TASK, &rerotated).unwrap_err());
    refused(session.ask(TASK).via(Handoff::PackedKv(Storage::Full)).run().unwrap_err());
    assert!(serde_json::from_str::<BriefConfig>(r#"{"storage": "bits3"}"#).is_err());
    let config: BriefConfig = serde_json::from_str(r#"{"storage": "bits2"}"#).unwrap();
    assert_eq!(config.storage, Storage::Bits2);
    assert_eq!(serde_json::to_value(Storage::Full).unwrap(), "full");
}
