//! What every call cost.

use std::time::Duration;

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;
use latent_briefing::session::{
    HandoffKind, LlmLingua, LongLlmLingua, SelectiveContext, SentenceScore, SqueezeConfig, SummaryConfig,
};

use super::{lines, notes};
use crate::support::embedded;

const TASK: &str = "What is the code of the Oslund relay?";

fn handoffs() -> Vec<Handoff> {
    let size = SelectionSize::KeptLen(40);
    vec![
        Handoff::None,
        Handoff::FullKv,
        Handoff::PackedKv(Storage::Bits4),
        Handoff::TextReplay,
        Handoff::Notes,
        Handoff::Summary(SummaryConfig::default().with_max_tokens(6)),
        Handoff::bm25(size),
        Handoff::SelectiveContext(SelectiveContext { size, ..SelectiveContext::default() }),
        Handoff::LlmLingua(LlmLingua { size, ..LlmLingua::default() }),
        Handoff::LongLlmLingua(LongLlmLingua { size, ..LongLlmLingua::default() }),
        Handoff::Sentences { size, by: SentenceScore::Attention },
        Handoff::Squeeze(SqueezeConfig { k: 2, tokens: 6, draft: 2, ..SqueezeConfig::default() }),
        Handoff::Recent(size),
        Handoff::Random { size, seed: 1 },
        Handoff::briefing(Compaction::kept_len(40)),
        Renewal::every(2, Compaction::kept_len(40)).into(),
    ]
}

#[test]
fn a_record_says_what_a_call_cost() {
    let mut session = notes();
    session.note(Some("relay"), "its code is 5521").unwrap();
    for handoff in handoffs() {
        let outcome = session.ask(TASK).via(&handoff).run().unwrap();
        let record = *session.ledger().calls().last().unwrap();
        assert_eq!(record, outcome.record);
        assert_eq!((record.handoff, record.handoff.name()), (handoff.kind(), handoff.name()));
        assert_eq!((record.tokens, record.kept_len), (outcome.answer.tokens, outcome.kept_len));
        assert_eq!((record.seq_len, record.times.brief), (session.seq_len(), outcome.brief));
        assert!(record.times.prefill > Duration::ZERO && record.times.decode > Duration::ZERO);
        let made = matches!(
            handoff.kind(),
            HandoffKind::PackedKv
                | HandoffKind::Summary
                | HandoffKind::Bm25
                | HandoffKind::SelectiveContext
                | HandoffKind::LlmLingua
                | HandoffKind::LongLlmLingua
                | HandoffKind::Sentences
                | HandoffKind::Squeeze
                | HandoffKind::Recent
                | HandoffKind::Random
                | HandoffKind::LatentBriefing
                | HandoffKind::RenewedBriefing
        );
        assert_eq!(record.times.brief > Duration::ZERO, made, "{}", handoff.name());
    }
    assert_eq!(session.ledger().calls().len(), HandoffKind::ALL.len());
}

#[test]
fn bytes_are_those_of_the_cache_that_answers() {
    let mut session = notes();
    let per_slot = session.cache().bytes() / session.seq_len();
    let full = session.ask(TASK).via(Handoff::FullKv).run().unwrap().record;
    assert_eq!(full.cache_bytes, per_slot * full.tokens.attended);
    let replay = session.ask(TASK).via(Handoff::TextReplay).run().unwrap().record;
    assert_eq!(replay.cache_bytes, full.cache_bytes);
    let briefed = session.ask(TASK).via(Handoff::briefing(Compaction::kept_len(20))).run().unwrap().record;
    // Biases of the kept slots.
    let config = embedded().config();
    let biases = 20 * 4 * config.num_hidden_layers * config.num_key_value_heads;
    assert_eq!(briefed.cache_bytes, per_slot * briefed.tokens.attended + biases);
}

#[test]
fn sums_are_sums() {
    let mut session = notes();
    session.ask(TASK).via(Handoff::FullKv).run().unwrap();
    session
        .ask_all([TASK, "Who?", "Where?"])
        .via(Handoff::briefing(Compaction::keep_ratio(0.3)))
        .run()
        .unwrap();
    let (sum, calls) = (session.ledger().sum(), session.ledger().calls());
    assert_eq!((sum.calls, calls.len()), (4, 4));
    assert_eq!(sum.tokens.attended, calls.iter().map(|call| call.tokens.attended).sum::<usize>());
    assert_eq!(sum.times.total(), calls.iter().map(|call| call.times.total()).sum::<Duration>());
    assert_eq!(sum.peak_cache_bytes, calls[0].cache_bytes);
    assert_eq!(sum.tokens, session.ledger().total());
    assert_eq!(sum.trajectory_prefilled, session.seq_len());
    assert!(sum.trajectory_time > Duration::ZERO);
    assert_eq!((sum.room_prefilled, sum.room_time), (0, Duration::ZERO));
    let json = serde_json::to_string(session.ledger()).unwrap();
    assert_eq!(serde_json::from_str::<TokenLedger>(&json).unwrap(), *session.ledger());
    assert!(json.contains(r#""handoff":"latent-briefing""#), "{json}");
}

/// The shares of a batch are its time, not a multiple of it.
#[test]
fn a_batch_shares_its_time_out() {
    let mut session = embedded().session().unwrap();
    session.extend_all(lines(), &mut |_, _| {}).unwrap();
    let start = std::time::Instant::now();
    let outcomes =
        session.ask_all([TASK; 8]).via(Handoff::briefing(Compaction::keep_ratio(0.3))).run().unwrap();
    let elapsed = start.elapsed();
    let sum = session.ledger().sum().times;
    assert!(sum.total() <= elapsed, "{sum:?} of {elapsed:?}");
    let together = outcomes[0].answer.elapsed;
    assert!(sum.decode <= together && sum.decode > Duration::ZERO);
}
