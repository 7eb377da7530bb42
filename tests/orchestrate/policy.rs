//! What enters the cache, and what is said of the rest.

use latent_briefing::prelude::*;
use latent_briefing::session::Error;
use latent_briefing::session::SegmentEntered;

use crate::support::embedded;

fn session(policy: BoundaryPolicy) -> WorkerSession {
    WorkerSession::with(embedded(), SessionConfig { policy, ..SessionConfig::default() }).unwrap()
}

fn text_len(text: &str) -> usize {
    embedded().tokenizer().encode_text(text).unwrap().len()
}

const LONG: &str = "one two three four five six seven eight nine ten";

#[test]
fn every_source_has_its_own_tag() {
    let mut session = session(BoundaryPolicy::default());
    for source in Source::ALL {
        session.extend(Segment::new(source, "x")).unwrap();
    }
    let text = embedded().tokenizer().decode(session.tokens()).unwrap();
    let lines = "finding: x\nreasoning: x\ntool: x\nartifact: x\ncode: x\nreply: x\nrequest: x\n";
    assert!(text.ends_with(lines), "{text}");
}

#[test]
fn what_is_cut_is_told() {
    let policy = BoundaryPolicy::default().with_max_segment_tokens(12).with_cap(Source::Tool, 4);
    let mut session = session(policy);
    let whole = text_len(LONG);
    for (source, cap) in [(Source::Tool, 4), (Source::Code, 12)] {
        let before = session.seq_len();
        let entered = session.extend(Segment::new(source, LONG)).unwrap();
        let around = text_len(&format!("{}: ", source.tag())) + text_len("\n");
        let expected = SegmentEntered { entered: cap + around, left_out: whole - cap };
        assert_eq!(entered.segments, [expected]);
        assert_eq!(session.seq_len(), before + entered.entered());
    }
    let entered = session.extend(Segment::finding("three words fit")).unwrap();
    assert_eq!(entered.left_out(), 0);
}

#[test]
fn what_is_kept_out_is_told() {
    let mut session = session(BoundaryPolicy::nothing().admitting([Source::Reply, Source::Reply]));
    let segments = [Segment::code("x = 1"), Segment::reply("Ana"), Segment::reasoning(LONG)];
    let entered = session.extend_all(segments, &mut |_, _| {}).unwrap();
    let left_out: Vec<usize> = entered.segments.iter().map(|segment| segment.left_out).collect();
    assert_eq!(left_out, [text_len("x = 1"), 0, text_len(LONG)]);
    assert_eq!(entered.segments[0].entered, 0);
    assert_eq!(entered.entered(), text_len("reply: Ana\n"));
    assert_eq!(session.trajectory().len(), 3);
}

#[test]
fn a_policy_is_read_from_json_and_checked() {
    let json = r#"{"admit": ["finding", "code"], "max_tokens_of": {"code": 30}}"#;
    let policy: BoundaryPolicy = serde_json::from_str(json).unwrap();
    assert!(policy.admits(Source::Code) && !policy.admits(Source::Reply));
    assert_eq!((policy.cap(Source::Code), policy.cap(Source::Finding)), (Some(30), None));
    let again: BoundaryPolicy = serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
    assert_eq!(again, policy);
    assert!(serde_json::from_str::<BoundaryPolicy>(r#"{"admits": []}"#).is_err());
    for (policy, field) in [
        (BoundaryPolicy::default().with_cap(Source::Code, 0), "max_tokens_of"),
        (BoundaryPolicy::default().with_max_segment_tokens(0), "max_segment_tokens"),
    ] {
        let config = SessionConfig { policy, ..SessionConfig::default() };
        match WorkerSession::with(embedded(), config) {
            Err(Error::Config { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn extending_can_be_broken_off() {
    let config = SessionConfig {
        prefill: latent_briefing::model::PrefillOptions { chunk: 8 },
        ..SessionConfig::default()
    };
    let mut session = WorkerSession::with(embedded(), config).unwrap();
    let before = (session.seq_len(), session.ledger().clone());
    let mut heard = Vec::new();
    let result = session.extend_while([Segment::tool(LONG.repeat(3))], &mut |done, _| {
        heard.push(done);
        heard.len() < 2
    });
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(heard, [8, 16]);
    assert_eq!((session.seq_len(), session.cache().logical_len()), (before.0, before.0));
    assert_eq!((session.trajectory().len(), session.ledger()), (0, &before.1));
    assert!(session.extend(Segment::tool(LONG)).is_ok());
}
