//! Briefings that are renewed while the answer is written.

use latent_briefing::am::Compaction;
use latent_briefing::prelude::*;
use latent_briefing::session::{CancelToken, Error, HandoffKind};

use super::{contents, notes};

const TASK: &str = "What is the code of the Oslund relay?";

fn config() -> BriefConfig {
    BriefConfig::from(Compaction::keep_ratio(0.3)).with_lookahead(Lookahead::NONE)
}

fn most_likely(logits: &candle_core::Tensor) -> Vec<u32> {
    logits.argmax(1).unwrap().to_vec1().unwrap()
}

/// With everything kept there is nothing to renew.
#[test]
fn a_renewal_of_everything_answers_like_the_full_cache() {
    let mut session = notes();
    let full = session.ask(TASK).via(Handoff::FullKv).run().unwrap().answer.text;
    let renewal = Renewal::every(1, Compaction::keep_ratio(1.0));
    let outcome = session.ask(TASK).via(renewal).run().unwrap();
    assert_eq!(outcome.answer.text, full);
    assert_eq!(outcome.record.handoff, HandoffKind::RenewedBriefing);
}

/// Reading the worker's own answer finds each of its tokens the most likely one, renewed or not: writing and reading go the same
/// way.
#[test]
fn forced_answers_are_read_as_they_would_be_written() {
    let mut session = notes();
    let handoffs: [Handoff; 5] = [
        Handoff::FullKv,
        Handoff::TextReplay,
        config().into(),
        Renewal::every(2, config()).into(),
        Renewal::every(3, config().with_lookahead(Lookahead::draft(Draft::of(3)))).into(),
    ];
    for handoff in handoffs {
        let outcome = session.ask(TASK).via(&handoff).run().unwrap();
        let mut tokens = session.worker().tokenizer().encode_text(&outcome.answer.text).unwrap();
        tokens.push(session.worker().tokenizer().eos_ids()[0]);
        let forced = session.ask(TASK).via(&handoff).forced(&tokens).unwrap();
        assert_eq!(most_likely(&forced.logits), tokens, "{}: {}", handoff.name(), outcome.answer.text);
        assert_eq!(forced.kept_len, outcome.kept_len);
        assert_eq!(forced.renewals.is_zero(), handoff.kind() != HandoffKind::RenewedBriefing);
    }
    assert_eq!(session.ledger().calls().len(), 5, "what is forced is not recorded");
    assert!(matches!(session.ask(TASK).via(Handoff::FullKv).forced(&[]), Err(Error::Empty { .. })));
}

#[test]
fn several_answers_renew_each_its_own() {
    let mut session = notes();
    let tasks = [TASK, "Who keeps the Velmar ledger?", "Where is the Torwick vault stored?"];
    let renewal = Renewal::every(2, config());
    let before = contents(session.cache());
    let together = session.ask_all(tasks).via(renewal.clone()).run().unwrap();
    for (task, outcome) in tasks.into_iter().zip(together) {
        let alone = session.ask(task).via(renewal.clone()).run().unwrap();
        assert_eq!(alone.answer.text, outcome.answer.text);
        assert!(alone.briefing.is_some(), "the first one is handed out");
    }
    assert_eq!(contents(session.cache()), before);
    let snapshot = session.snapshot();
    assert!(snapshot.ask(TASK).via(renewal).run().is_ok());
}

#[test]
fn what_cannot_renew_is_refused_and_a_call_is_called_off() {
    let mut session = notes();
    let chunked = config().with_chunking(Chunking::in_place(8));
    for renewal in [
        Renewal::every(0, config()),
        Renewal::every(4, chunked),
        Renewal::every(4, config().with_on_policy(true)),
    ] {
        let error = session.ask(TASK).via(renewal).run().unwrap_err();
        assert!(matches!(&error, Error::Config { field, .. } if field.starts_with("renewal")), "{error}");
    }
    let cancel = CancelToken::new();
    let hear = |_: &str| {
        cancel.cancel();
        true
    };
    let ask = session.ask(TASK).via(Renewal::every(1, config())).cancelled_by(&cancel).stream(hear);
    assert!(matches!(ask.run(), Err(Error::Cancelled)));
    assert!(session.ledger().calls().is_empty());
}

#[test]
fn a_text_says_how_often() {
    for (text, every) in [
        ("renewed-briefing", 16),
        ("renewed-briefing:keep=0.1", 16),
        ("renewed-briefing:keep=0.1,renew=8", 8),
        ("latent-briefing:keep=0.1,renew=4", 4),
    ] {
        let Handoff::RenewedBriefing(renewal) = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!(renewal.every, every);
    }
    assert!("latent-briefing:renew=0".parse::<Handoff>().is_err());
    let renewal: Handoff = Renewal::every(8, config()).into();
    let json = serde_json::to_string(&renewal).unwrap();
    assert_eq!(serde_json::from_str::<Handoff>(&json).unwrap(), renewal);
}
